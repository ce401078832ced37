"""The judge is judged: a bug that is planted shows in some seed, and the same seed tells the same history in any process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from flexinfer.arbiter.__main__ import SERVICE as ARBITER
from flexinfer.arbiter.decide import Advance
from flexinfer.arbiter.group import groups_of
from flexinfer.contracts import keys
from flexinfer.contracts.actions import Report
from flexinfer.contracts.fleet import Fleet
from flexinfer.contracts.workload import FREED, STOPPED
from flexinfer.reaper.__main__ import SERVICE as REAPER
from flexinfer.runtime.reactor import Service
from tests.simulation.history import play
from tests.simulation.loop import run

_SEEDS = range(40)


def _notices(service: Service, *words: str) -> bool:
    """Tell whether a seed's judge says any of these words of a house with this service; others may say what else follows from it."""
    return any(
        word in problem
        for seed in _SEEDS
        for problem in run(play(seed, {service.name: service})).problems
        for word in words
    )


def _hasty(fleet: Fleet, now: float, **options: Any) -> Iterator[Any]:
    """Decide as the arbiter does, but free a device without a look at its memory."""
    yield from ARBITER.decide(fleet, now, **options)
    for group in groups_of(fleet):
        if group.lease.step == STOPPED:
            yield Advance(lease=group.lease, step=FREED, reason=group.lease.reason)


def _sleepless(fleet: Fleet, now: float, **options: Any) -> Iterator[Any]:
    """Decide as the reaper does, but let no Model sleep."""
    for action in REAPER.decide(fleet, now, **options):
        if not (isinstance(action, Report) and action.condition.reason == keys.R_IDLE):
            yield action


def _mute(fleet: Fleet, now: float, **options: Any) -> Iterator[Any]:
    """Decide as the arbiter does, but tell no Model that its turn has come."""
    for action in ARBITER.decide(fleet, now, **options):
        if not (isinstance(action, Report) and action.condition.reason == keys.R_GRANTED):
            yield action


def test_a_device_freed_before_its_memory_is_noticed() -> None:
    """The node sees the next engine start into memory in use."""
    assert _notices(msgspec.structs.replace(ARBITER, decide=_hasty), "has the memory of")


def test_a_model_that_never_sleeps_is_noticed() -> None:
    """It is not where its spec and the lack of demand put it."""
    assert _notices(msgspec.structs.replace(REAPER, decide=_sleepless), "is Ready, not Idle")


def test_a_wait_past_its_deadline_is_noticed() -> None:
    """Somebody queues for a turn that nobody is told of."""
    first = f"{keys.WANTED}/{keys.R_FIRST_START}"
    assert _notices(msgspec.structs.replace(ARBITER, decide=_mute), f"{keys.GRANTED}/", first)


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """Whatever the order of its sets: what failed elsewhere can be looked at here."""
    program = (
        "from tests.simulation.history import play; from tests.simulation.loop import run; "
        "print(*(run(play(seed)).digest for seed in (3, 7, 11)))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in ("1", "2")
    }
    assert len(told) == 1
