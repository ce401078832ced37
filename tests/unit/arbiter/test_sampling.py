"""Nodes of which a sample is waited for: which they are, and how often their agents get the hint."""

import asyncio

import msgspec

from flexinfer.api.sharedgroup import RELEASING, STOPPED
from flexinfer.arbiter.sampling import SampleHints, awaited_samples
from flexinfer.events.events import SampleAwaited
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_state
from tests.runtimes import ListBus, a_runtime
from tests.simulation.loop import run
from tests.unit.arbiter.groups import held, later, member, sample


def stopped(at: float = NOW + 5) -> ObservedState:
    """Return a state in which the holder of node a stops at a time, after a sample of NOW + 2."""
    state = later(a_state(held(step=RELEASING), member("a")), NOW + 2, sample(14_000))
    return later(state, at, held(step=STOPPED))


def test_a_holder_that_has_stopped_waits_for_a_sample_of_from_then_on() -> None:
    """One of before may show its memory although it is free, or free although it is not."""
    assert awaited_samples(stopped(), NOW + 6) == {"a": NOW + 5}
    taken = later(stopped(), NOW + 6, msgspec.structs.replace(sample(0), sample=2))
    assert awaited_samples(taken, NOW + 6) == {}


def test_a_group_that_is_seen_for_the_first_time_waits_for_one_too() -> None:
    """Its last holder may have been taken off by the arbiter before this one."""
    free = msgspec.structs.replace(held().status, holders=(), turn=7, node="a")
    state = later(ObservedState(), NOW - 3, sample(0))
    state = later(state, NOW, msgspec.structs.replace(held(), status=free))
    assert awaited_samples(state, NOW + 1) == {"a": NOW}


def test_a_node_that_is_silent_or_never_had_an_agent_is_not_asked_without_end() -> None:
    """The group is blocked by then, or its devices count as free by time."""
    assert awaited_samples(stopped(), NOW + 36) == {}
    never = later(a_state(held(step=RELEASING), member("a")), NOW + 5, held(step=STOPPED))
    assert awaited_samples(never, NOW + 6) == {}


def test_the_hint_is_published_at_once_and_each_second_until_the_sample_is_there() -> None:
    """It may be lost."""

    async def main() -> list[float]:
        bus, loop = ListBus(), asyncio.get_running_loop()
        runtime, hints, state = (
            a_runtime("arbiter", bus=bus, clock=lambda: NOW + 5 + loop.time()),
            SampleHints(),
            stopped(),
        )
        task = asyncio.create_task(hints.run(runtime))
        hints.observe(state)
        times: list[float] = []
        while len(times) < 3:
            await asyncio.sleep(0.1)
            times += [loop.time()] * (len(bus.published) - len(times))
        hints.observe(later(state, NOW + 9, msgspec.structs.replace(sample(0), sample=2)))
        await asyncio.sleep(5)
        task.cancel()
        assert bus.published == [SampleAwaited(node="a")] * 3
        return times

    first, second, third = run(main())
    assert first < 0.2
    assert 0.9 < second - first < 1.2
    assert 0.9 < third - second < 1.2
