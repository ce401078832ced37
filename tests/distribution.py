"""How a run is distributed over its workers: tests that wait and tests that compute run beside each other.

The first worker takes what computes first, at a low priority; the others take what waits, the longest first. What is left at
the end computes, and is taken by as many workers as there are cores: more would only share their caches.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

_SPREAD = ("tests/integration/prefetcher/test_download.py", "tests/simulation/test_histories.py")
"""The files that take longest; their tests share nothing, and are distributed over all workers."""
_LONGEST = (
    "tests/e2e/test_killed_swaps.py",
    "tests/e2e/test_examples.py",
    "tests/engines/",
    "tests/e2e/",
)
"""The longest of those that wait, which are begun first."""
_WAITING = (
    "tests/e2e/",
    "tests/engines/",
    "tests/integration/",
    "tests/conformance/",
    "tests/cluster/",
    "tests/protocol/",
)
"""Tests that mostly wait, for processes and their timers; all others compute."""
_COMPUTING_WORKER = "gw0"
_NICENESS = 5
"""How much lower the priority of that worker is, so that processes which are waited for run as if it were not there."""


def unit_of(nodeid: str) -> str:
    """Return what runs on one worker: a file, or one test of those that are spread."""
    return nodeid if nodeid.startswith(_SPREAD) else nodeid.partition("::")[0]


def in_order(units: Iterable[str]) -> list[str]:
    """Return the units in the order in which workers take them: what waits, longest first, then what computes, what is spread last."""
    return sorted(units, key=_rank)


def _rank(unit: str) -> tuple[bool, int, bool]:
    at = next((number for number, prefix in enumerate(_LONGEST) if unit.startswith(prefix)), len(_LONGEST))
    return not _waits(unit), at, unit.startswith(_SPREAD)


def _waits(unit: str) -> bool:
    return unit.startswith(_WAITING)


def next_of(units: Sequence[str], worker: str) -> str:
    """Return which of the units, in their order, a worker takes next."""
    if worker != _COMPUTING_WORKER:
        return units[0]
    return next((unit for unit in units if not _waits(unit)), units[0])


def takes_more(units: Sequence[str], worker: str, cores: int) -> bool:
    """Return whether a worker continues with the units that are left: all while some of them wait, else one for each core."""
    number = worker.removeprefix("gw")
    return any(map(_waits, units)) or not number.isdigit() or int(number) < cores


def arrange(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a worker, put the tests into their order, and give way to those that wait if it is the one that computes."""
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker is None:
        return
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        units.setdefault(unit_of(item.nodeid), []).append(item)
    items[:] = [item for unit in in_order(units) for item in units[unit]]
    if worker == _COMPUTING_WORKER and len({_waits(unit) for unit in units}) > 1:
        os.nice(_NICENESS)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what hands units to workers."""
    from xdist.scheduler import (  # type: ignore[import-untyped] # noqa: PLC0415 -- xdist is optional
        LoadFileScheduling,
    )

    class Beside(LoadFileScheduling):  # type: ignore[misc] # xdist has no type hints
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            self.workqueue.move_to_end(next_of(tuple(self.workqueue), node.gateway.id), last=False)
            super()._assign_work_unit(node)

        def _reschedule(self, node: Any) -> None:
            units = tuple(self.workqueue)
            if units and not node.shutting_down and not takes_more(units, node.gateway.id, cores):
                node.shutdown()
            else:
                super()._reschedule(node)

    cores = len(os.sched_getaffinity(0))
    config.option.loadscopereorder = False  # `arrange` has ordered them
    return Beside(config, log)
