"""The checker finds planted bugs in some seed, and a seed gives the same history in every process."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import msgspec

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import FREED, STOPPED
from flexinfer.arbiter.__main__ import controller as arbiter
from flexinfer.arbiter.effects import Advance
from flexinfer.arbiter.keys import group_in
from flexinfer.proxy.gateway import Gateway, ProxiedRequest
from flexinfer.proxy.wait_limits import Wait, Waits
from flexinfer.reaper.__main__ import controller as reaper
from flexinfer.reaper.memory import Memory
from flexinfer.state.actions import WriteStatus
from flexinfer.state.observed import ObservedState
from tests.simulation.controllers import AnyController
from tests.simulation.deadlines import SETTINGS
from tests.simulation.history import play
from tests.simulation.loop import run
from tests.simulation.proxy import GatewayFactory

T = TypeVar("T")
_SEEDS = range(40)
ARBITER, REAPER = arbiter(SETTINGS), reaper(SETTINGS)
"""For their decisions; a history has controllers of its own, whose companions belong to its event loop."""


def _an_arbiter() -> AnyController:
    return arbiter(SETTINGS)


def _finds(
    *words: str, service: Callable[[], AnyController] = _an_arbiter, gateway: GatewayFactory = Gateway
) -> bool:
    """Return whether a seed with this controller and gateway has a problem with one of these words."""
    return any(
        word in problem
        for seed in _SEEDS
        for controller in (service(),)
        for problem in run(play(seed, {controller.name: controller}, gateway)).problems
        for word in words
    )


class _WithoutDeadline(Gateway):
    """A gateway that queues requests past their deadline."""

    def resolve(
        self, path: str, host: str, body: bytes, *, method: str = "POST", content_type: str = ""
    ) -> ProxiedRequest:
        waits = Waits(dict.fromkeys(Wait, 1e6))
        request = super().resolve(path, host, body, method=method, content_type=content_type)
        return msgspec.structs.replace(request, waits=waits)


class _Dropping(Gateway):
    """A gateway that drops a request when its Model is not ready."""

    async def forward(self, request: ProxiedRequest, send: Callable[[str], Awaitable[T]]) -> T:
        if not request.route.address:
            await asyncio.Event().wait()
        return await super().forward(request, send)


def _free_at_once(state: ObservedState, memory: None, key: str, now: float) -> Iterator[Any]:
    """Decide as the arbiter does, but free a device without a check of its memory."""
    yield from ARBITER.decide(state, memory, key, now)
    found = group_in(key)
    group = state.group(*found) if found is not None else None
    for holder in group.status.holders if group is not None else ():
        if group is not None and holder.step == STOPPED:
            yield Advance(
                group=group, holder=holder, step=FREED, model=state.models.get(f"default/{holder.model}")
            )


def _never_idle(state: ObservedState, memory: Memory, key: str, now: float) -> Iterator[Any]:
    """Decide as the reaper does, but scale no Model to zero."""
    for action in REAPER.decide(state, memory, key, now):
        if not (isinstance(action, WriteStatus) and action.condition.reason == Reason.IDLE):
            yield action


def _without_grants(state: ObservedState, memory: None, key: str, now: float) -> Iterator[Any]:
    """Decide as the arbiter does, but write no Granted condition."""
    for action in ARBITER.decide(state, memory, key, now):
        if not (isinstance(action, WriteStatus) and action.condition.reason == Reason.GRANTED):
            yield action


def test_a_device_freed_before_its_memory_is_found() -> None:
    """Whether or not another engine starts meanwhile."""
    assert _finds(
        "Freed while its memory is in use",
        service=lambda: msgspec.structs.replace(arbiter(SETTINGS), decide=_free_at_once),
    )


def test_a_model_that_is_never_scaled_to_zero_is_found() -> None:
    """Its phase is not the expected one without requests."""
    assert _finds(
        "is Ready, not Idle", service=lambda: msgspec.structs.replace(reaper(SETTINGS), decide=_never_idle)
    )


def test_a_wait_past_its_deadline_is_found() -> None:
    """A Model is queued for a turn that is never reported."""
    first = f"{conditions.WANTED}/{Reason.FIRST_START}"
    assert _finds(
        f"{conditions.GRANTED}/",
        first,
        service=lambda: msgspec.structs.replace(arbiter(SETTINGS), decide=_without_grants),
    )


def test_a_request_that_is_answered_after_its_deadline_is_found() -> None:
    """The gateway queues it for as long as the Model is not ready."""
    assert _finds("after its deadline", gateway=_WithoutDeadline)


def test_a_request_that_is_dropped_is_found() -> None:
    """It gets no response."""
    assert _finds("not answered", gateway=_Dropping)


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """Whatever the hash seed: a failure of another machine can be reproduced."""
    program = (
        "from tests.simulation.history import play; from tests.simulation.loop import run; "
        "print(*(run(play(seed)).digest for seed in (3, 7, 11)))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in ("1", "2")
    }
    assert len(digests) == 1
