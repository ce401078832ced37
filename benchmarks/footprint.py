"""Row 8: memory of everything idle, as the sum of PSS, one process a service and all in one."""

from pathlib import Path

from benchmarks.instance import instance

GOALS = {(): 250, ("--one-process",): 80}
NOT_COUNTED = ("api", "node")


def pss(pid: int) -> float:
    """Return a process's proportional set size in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no Pss of {pid}")


def main() -> None:
    """Print the memory of both shapes against their goals."""
    totals = {}
    for options, goal in GOALS.items():
        with instance(*options) as running:
            running.apply("one")
            running.until("one", "condition=Ready")
            each = {s["name"]: pss(int(s["pid"])) for s in running.services()}
        counted = {name: size for name, size in each.items() if name not in NOT_COUNTED}
        total = totals[options] = sum(counted.values())
        print(
            f"{' '.join(options) or 'one process a service'}: "
            + ", ".join(f"{n} {s:.0f}" for n, s in counted.items())
        )
        print(f"  sum {total:.0f} MiB, goal {goal} MiB ({'met' if total <= goal else 'missed'})")
    print(f"ratio of one process to many: {totals['--one-process',] / totals[()]:.2f}")


if __name__ == "__main__":
    main()
