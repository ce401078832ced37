"""Row 8: memory of an idle installation (sum of PSS), with the controllers in one process and separate.

Counted are the components, nats-server and their supervisor (`up`: `flexinfer up` itself); not the engine,
the local API and the local node, which replace parts of a cluster. PSS divides a page among all processes
that map it: another instance on the machine would reduce the result.
"""

from pathlib import Path

from benchmarks import load
from benchmarks.instance import instance

GOALS = {(): 150, ("--separate",): 250}
NOT_COUNTED = ("api", "node", "kubernetes")
SETTLED_SECONDS = 5.0


def pss(pid: int) -> float:
    """Return the proportional set size of a process in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no Pss of {pid}")


def main() -> None:
    """Print the memory of both forms and their goals."""
    totals = {}
    for options, goal in GOALS.items():
        with instance(*options) as running:
            running.apply("one")
            running.until("one", "condition=Ready")
            busy = load.rest(SETTLED_SECONDS)
            pids = {"up": running.supervisor} | {s["name"]: int(s["pid"]) for s in running.services()}
            each = {name: pss(pid) for name, pid in pids.items()}
        counted = {name: size for name, size in each.items() if name not in NOT_COUNTED}
        total = totals[options] = sum(counted.values())
        print(f"load while idle with one ready Model: {busy:.2f} of a core")
        print(
            f"{' '.join(options) or 'controllers in one process'}: "
            + ", ".join(f"{n} {s:.0f}" for n, s in counted.items())
        )
        print(f"  sum {total:.0f} MiB, goal {goal} MiB ({'met' if total <= goal else 'missed'})")
    print(
        f"ratio of the controllers in one process to one process per component: {totals[()] / totals['--separate',]:.2f}"
    )


if __name__ == "__main__":
    main()
