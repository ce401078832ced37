"""The controllers of the simulation: the real ones, with what the checker needs to see of them.

`touched` promises that every other key's decision is the same before and after an event; of all events, some are
checked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from flexinfer.arbiter.__main__ import controller as arbiter
from flexinfer.events.events import AnyEvent
from flexinfer.launcher.__main__ import controller as launcher
from flexinfer.launcher.engine_client import Ask
from flexinfer.placer.__main__ import controller as placer
from flexinfer.prefetcher.__main__ import controller as prefetcher
from flexinfer.reaper.__main__ import controller as reaper
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.settings import Settings
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState
from tests.keyed import due_at, effects

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tests.simulation.simulation import Simulation

AnyController: TypeAlias = Controller[Any, Any, Any]
Controllers: TypeAlias = Mapping[str, Callable[[], AnyController]]
_CHECKED = 0.05
"""The share of events for which the keys that they do not touch are decided on twice."""


def controllers(
    settings: Settings,
    opened: "Callable[[], AbstractAsyncContextManager[Ask]]",
    replaced: Mapping[str, AnyController],
) -> Controllers:
    """Return what makes each controller; `replaced` are used in place of the real ones."""
    makers: dict[str, Callable[[], AnyController]] = {
        "placer": lambda: placer(settings),
        "prefetcher": lambda: prefetcher(settings),
        "reaper": lambda: reaper(settings),
        "arbiter": lambda: arbiter(settings),
        "launcher": lambda: launcher(settings, opened),
    }
    return makers | {name: lambda made=controller: made for name, controller in replaced.items()}


def observed(controller: AnyController, simulation: "Simulation") -> AnyController:
    """Return a controller whose state the checker sees, and whose `touched` it checks."""
    latest: list[Any] = [ObservedState(), controller.memory]
    # Decided on since they were touched last, with nothing to do: what is tried is decided on again, also if it failed, and
    # so is what is due.
    settled: dict[str, float] = {}  # key -> when it is due

    def observe(state: ObservedState, memory: Any) -> None:
        if state.connected_since != latest[0].connected_since:
            settled.clear()  # replaced by a replay, or no longer heard: everything is decided on again
        latest[:] = state, memory
        for observer in controller.observers:
            observer(state, memory)

    def decide(state: ObservedState, memory: Any, key: str, now: float) -> Iterable[Any]:
        actions = list(controller.decide(state, memory, key, now))
        settled.pop(key, None)
        if not effects(actions):
            settled[key] = due_at(actions)
        return actions

    def touched(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterable[str]:
        keys = set(controller.touched(before, after, event))
        if before is not latest[0]:
            settled.clear()  # replaced by a replay
        latest[0] = after
        if simulation.sampling.random() < _CHECKED:
            now = simulation.clock()
            others = {key for key, due in settled.items() if now < due} - keys - before.assumed.keys()
            check_untouched(controller, simulation, (before, after, latest[1]), others, event)
        for key in keys:
            settled.pop(key, None)
        return keys

    simulation.observed[controller.name] = lambda: latest[0]
    return msgspec.structs.replace(controller, observers=(observe,), decide=decide, touched=touched)


def check_untouched(
    controller: AnyController,
    simulation: "Simulation",
    states: tuple[ObservedState, ObservedState, Any],
    others: set[str],
    event: AnyEvent,
) -> None:
    """Report each of the keys that an event does not touch whose decision it alters."""
    before, after, memory = states
    now = simulation.clock()
    for key in sorted(others & {*controller.keys(before), *controller.keys(after)}):
        was = list(controller.decide(before, memory, key, now))
        becomes = list(controller.decide(after, memory, key, now))
        if effects(was) != effects(becomes) or due_at(becomes) < due_at(was):
            simulation.checker.report(
                f"{type(event).__name__} alters what the {controller.name} decides on {key}, "
                f"which it does not touch: {_short(was)} becomes {_short(becomes)}"
            )


def _short(actions: Sequence[Any]) -> str:
    """Return what a decision yields, without the Models that it was made from."""
    return ", ".join(_told(action) for action in actions) or "nothing"


def _told(action: Any) -> str:
    if isinstance(action, WriteStatus):
        condition = action.condition
        return f"{condition.type}={condition.status}/{condition.reason} ({condition.message})"
    return f"{action!r}" if isinstance(action, RequeueAt) else type(action).__name__
