"""The judge is judged: a bug that is planted shows in some seed, and the same seed tells the same history in any process."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import msgspec

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.arbiter.__main__ import controller as arbiter
from flexinfer.arbiter.decide import Advance
from flexinfer.arbiter.group import groups_of
from flexinfer.events.workload import FREED, STOPPED
from flexinfer.proxy.gateway import Gateway, ProxiedRequest
from flexinfer.reaper.__main__ import controller as reaper
from flexinfer.reaper.memory import Memory
from flexinfer.state.actions import WriteStatus
from flexinfer.state.observed import ObservedState
from tests.simulation.history import play
from tests.simulation.loop import run
from tests.simulation.proxy import GatewayFactory
from tests.simulation.world import SETTINGS, AnyController

T = TypeVar("T")
_SEEDS = range(40)
ARBITER, REAPER = arbiter(SETTINGS), reaper(SETTINGS)


def _notices(*words: str, service: AnyController = ARBITER, gateway: GatewayFactory = Gateway) -> bool:
    """Return whether a seed with this service and gateway shows a problem with one of these words."""
    return any(
        word in problem
        for seed in _SEEDS
        for problem in run(play(seed, {service.name: service}, gateway)).problems
        for word in words
    )


class _Patient(Gateway):
    """A gateway that queues requests past their deadline."""

    def resolve(self, path: str, host: str, body: bytes) -> ProxiedRequest:
        return msgspec.structs.replace(super().resolve(path, host, body), deadline=1e6)


class _Negligent(Gateway):
    """A gateway that forgets a request when its Model is not ready."""

    async def forward(self, request: ProxiedRequest, send: Callable[[str], Awaitable[T]]) -> T:
        if not request.route.address:
            await asyncio.Event().wait()
        return await super().forward(request, send)


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
    assert _notices("has the memory of", service=msgspec.structs.replace(ARBITER, decide=_hasty))


def test_a_model_that_never_sleeps_is_noticed() -> None:
    """It is not where its spec and the lack of demand put it."""
    assert _notices("is Ready, not Idle", service=msgspec.structs.replace(REAPER, decide=_sleepless))


def test_a_wait_past_its_deadline_is_noticed() -> None:
    """Somebody queues for a turn that nobody is told of."""
    first = f"{conditions.WANTED}/{Reason.FIRST_START}"
    assert _notices(f"{conditions.GRANTED}/", first, service=msgspec.structs.replace(ARBITER, decide=_mute))


def test_a_request_that_is_answered_after_its_deadline_is_noticed() -> None:
    """The proxy queues it for as long as the Model is not ready."""
    assert _notices("after its deadline", gateway=_Patient)


def test_a_request_that_is_dropped_is_noticed() -> None:
    """It is never answered."""
    assert _notices("not answered", gateway=_Negligent)


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
