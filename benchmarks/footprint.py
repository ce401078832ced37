"""Row 8: memory of an idle installation, with the controllers in one process and separate, and of `flexinfer up` in all.

The two forms are compared by the sum of PSS of the components, nats-server and their supervisor (`up`: `flexinfer up`
itself), with one ready Model; not of the engine, the local API and the local node, which replace parts of a cluster.

`flexinfer up` in all has no Model, and every process of it counts. PSS divides a page among all processes that map it,
those of other programs too, so that a busy machine reduces it. Its sum is therefore beside what the instance takes
alone on a machine: the anonymous pages of its processes, and the pages of files counted once.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from benchmarks import load
from benchmarks.instance import Instance, instance

GOALS = {(): 150, ("--separate",): 250}
GOAL_IN_ALL = 150
NOT_COUNTED = ("api", "node", "kubernetes")
SETTLED_SECONDS = 5.0
STEADY_SECONDS = 30.0
_HEADER = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ (?P<offset>[0-9a-f]+) \S+ \d+ *(?P<file>.*)")
_MIB = 1024


class Mapping(msgspec.Struct, frozen=True):
    """One mapping of a process, and what is resident of it in KiB: anonymous pages, and pages of its file."""

    file: str
    offset: str
    anonymous: int
    of_file: int


def pss(pid: int) -> float:
    """Return the proportional set size of a process in MiB. Raises RuntimeError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / _MIB
    raise RuntimeError(f"no Pss of {pid}")


def mappings(pid: int) -> Iterator[Mapping]:
    """Yield the mappings of a process."""
    file, offset, resident = "", "", 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if header := _HEADER.fullmatch(line):
            file, offset = header["file"], header["offset"]
        elif line.startswith("Rss:"):
            resident = int(line.split()[1])
        elif line.startswith("Anonymous:"):
            anonymous = int(line.split()[1])
            yield Mapping(file, offset, anonymous, resident - anonymous)


def anonymous(pid: int) -> float:
    """Return the anonymous memory of a process in MiB."""
    return sum(mapping.anonymous for mapping in mappings(pid)) / _MIB


def files_once(pids: Iterable[int]) -> float:
    """Return the resident pages of files in MiB, each part of a file counted as in the process that has most of it."""
    largest: dict[tuple[str, str], int] = {}
    for mapping in (mapping for pid in pids for mapping in mappings(pid)):
        part = mapping.file, mapping.offset
        largest[part] = max(mapping.of_file, largest.get(part, 0))
    return sum(largest.values()) / _MIB


def processes(running: Instance) -> dict[str, int]:
    """Return the pid of each process of an instance, `up` itself included."""
    return {"up": running.supervisor} | {row["name"]: int(row["pid"]) for row in running.services()}


def print_components() -> None:
    """Print the memory of both forms of the components and their goals."""
    totals = {}
    for options, goal in GOALS.items():
        with instance(*options) as running:
            running.apply("one")
            running.until("one", "condition=Ready")
            busy = load.rest(SETTLED_SECONDS)
            each = {name: pss(pid) for name, pid in processes(running).items()}
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


def print_in_all() -> None:
    """Print the memory of all processes of `flexinfer up` without a Model, and the goal."""
    with instance() as running:
        load.rest(STEADY_SECONDS)
        pids = processes(running)
        proportional = {name: pss(pid) for name, pid in pids.items()}
        private = {name: anonymous(pid) for name, pid in pids.items()}
        shared = files_once(pids.values())
    print("`flexinfer up` in all, without a Model, PSS (anonymous) in MiB:")
    print("  " + ", ".join(f"{name} {proportional[name]:.1f} ({private[name]:.1f})" for name in pids))
    alone = sum(private.values()) + shared
    print(
        f"  sum of PSS {sum(proportional.values()):.1f} MiB; alone on a machine {alone:.1f} MiB "
        f"({sum(private.values()):.1f} anonymous + {shared:.1f} of files), "
        f"goal {GOAL_IN_ALL} MiB ({'met' if alone <= GOAL_IN_ALL else 'missed'})"
    )


def main() -> None:
    """Print both."""
    print_components()
    print_in_all()


if __name__ == "__main__":
    main()
