"""The judge is judged: a bug that is planted shows in some seed, and the same seed tells the same history in any process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.arbiter.__main__ import controller as arbiter
from flexinfer.arbiter.decide import Advance
from flexinfer.arbiter.group import groups_of
from flexinfer.events.workload import FREED, STOPPED
from flexinfer.reaper.__main__ import controller as reaper
from flexinfer.reaper.memory import Memory
from flexinfer.state.actions import WriteStatus
from flexinfer.state.observed import ObservedState
from tests.simulation.history import play
from tests.simulation.loop import run
from tests.simulation.world import SETTINGS, AnyController

_SEEDS = range(40)
ARBITER, REAPER = arbiter(SETTINGS), reaper(SETTINGS)


def _notices(service: AnyController, *words: str) -> bool:
    """Tell whether a seed's judge says any of these words of a house with this service; others may say what else follows from it."""
    return any(
        word in problem
        for seed in _SEEDS
        for problem in run(play(seed, {service.name: service})).problems
        for word in words
    )


def _hasty(state: ObservedState, memory: None, now: float) -> Iterator[Any]:
    """Decide as the arbiter does, but free a device without a look at its memory."""
    yield from ARBITER.decide(state, memory, now)
    for group in groups_of(state):
        if group.lease.step == STOPPED:
            yield Advance(lease=group.lease, step=FREED, reason=group.lease.reason)


def _sleepless(state: ObservedState, memory: Memory, now: float) -> Iterator[Any]:
    """Decide as the reaper does, but let no Model sleep."""
    for action in REAPER.decide(state, memory, now):
        if not (isinstance(action, WriteStatus) and action.condition.reason == Reason.IDLE):
            yield action


def _mute(state: ObservedState, memory: None, now: float) -> Iterator[Any]:
    """Decide as the arbiter does, but tell no Model that its turn has come."""
    for action in ARBITER.decide(state, memory, now):
        if not (isinstance(action, WriteStatus) and action.condition.reason == Reason.GRANTED):
            yield action


def test_a_device_freed_before_its_memory_is_noticed() -> None:
    """The node sees the next engine start into memory in use."""
    assert _notices(msgspec.structs.replace(ARBITER, decide=_hasty), "has the memory of")


def test_a_model_that_never_sleeps_is_noticed() -> None:
    """It is not where its spec and the lack of demand put it."""
    assert _notices(msgspec.structs.replace(REAPER, decide=_sleepless), "is Ready, not Idle")


def test_a_wait_past_its_deadline_is_noticed() -> None:
    """Somebody queues for a turn that nobody is told of."""
    first = f"{conditions.WANTED}/{Reason.FIRST_START}"
    assert _notices(msgspec.structs.replace(ARBITER, decide=_mute), f"{conditions.GRANTED}/", first)


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
