"""What one changed Model costs a component: as much among thousands of Models as among a dozen.

Counted in instructions of Python, which are the same on every machine; seconds are `benchmarks.decisions`'.
"""

import functools
import statistics
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, Self

import pytest

from benchmarks.decisions import CONTROLLERS, GOAL, WORLDS, AnyController, model, state_of
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

FEW, MANY = 12, 2000
NOW = 1000.0
NAMES = 9
world_of = functools.cache(state_of)


class Instructions:
    """Counts the instructions that the interpreter executes meanwhile."""

    def __init__(self) -> None:
        self.count = 0

    def _trace(self, frame: FrameType, what: str, _argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.count += what == "opcode"
        return self._trace

    def __enter__(self) -> Self:
        """Begin to count."""
        self._tracer = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_error: object) -> None:
        """Count no more."""
        sys.settrace(self._tracer)


def costs(controller: AnyController, state: ObservedState, changes: Iterable[AnyEvent]) -> list[int]:
    """Return the instructions of each event: apply it, find its keys, decide on each."""
    counts = []
    for event in changes:
        with Instructions() as executed:
            after = apply_events(state, [Observation(event, NOW)])
            for key in sorted(set(controller.touched(state, after, event))):
                list(controller.decide(after, controller.memory, key, NOW))
        counts.append(executed.count)
        state = after
    return counts


def woken(world: str) -> Iterable[AnyEvent]:
    """Yield some Models one after the other as a request starts them."""
    for number in range(NAMES):
        yield events.ModelObserved(model=model(number, world, version=2, wanted=True))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_changed_model_costs_the_same_among_many_others(name: str, world: str) -> None:
    """The first one is left aside, since it fills what is kept between decisions."""
    few, many = (
        statistics.median(costs(CONTROLLERS[name](), world_of(count, world), woken(world))[1:])
        for count in (FEW, MANY)
    )
    assert 0 < many <= GOAL * few


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_heartbeat_with_nothing_new_costs_the_same_among_many_others(name: str) -> None:
    """However many Models there are whose traffic it may concern."""
    heartbeats = [events.ProxyObserved(proxy="proxy-0")] * 4
    few, many = (
        max(costs(CONTROLLERS[name](), world_of(count, "traffic"), heartbeats)) for count in (FEW, MANY)
    )
    assert 0 < many <= GOAL * few
