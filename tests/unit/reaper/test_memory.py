"""What the reaper remembers, and how it learns the time of day."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from flexinfer.reaper.memory import ActivityWritten, ClockOffset, Fact, Memory, forget, remember
from flexinfer.reaper.perform import compare_clocks
from tests.runtimes import a_runtime


def test_facts_are_folded_beside_each_other() -> None:
    """Neither replaces the other; the newest of each counts."""
    memory = Memory()
    facts: list[Fact] = [
        ActivityWritten("default/a", "a", 1.0),
        ClockOffset(50.0),
        ActivityWritten("default/a", "a", 2.0),
    ]
    for fact in facts:
        memory = remember(memory, fact, 0.0)
    assert memory == Memory(written={"a": 2.0}, clock_offset=50.0)


def test_deleted_models_are_forgotten() -> None:
    """By uid."""
    memory = Memory(written={"a": 1.0, "b": 2.0}, clock_offset=50.0)
    assert forget(memory, "a") == Memory(written={"b": 2.0}, clock_offset=50.0)


async def test_the_clocks_are_compared_at_once_and_whenever_they_part() -> None:
    """A machine that was suspended for an hour resumes with another offset; a steady clock is no fact."""
    offsets, facts = iter([100.0, 100.1, 3700.0, 3700.0]), list[Fact]()
    sleeps = 0

    async def sleep(_seconds: float) -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 4:
            raise asyncio.CancelledError

    runtime = a_runtime(
        "reaper",
        clock=lambda: 5.0,
        utc_now=lambda: datetime.fromtimestamp(0, UTC) + timedelta(seconds=5.0 + next(offsets)),
        sleep=sleep,
    )
    with pytest.raises(asyncio.CancelledError):
        await compare_clocks(runtime, facts.append)
    assert facts == [ClockOffset(100.0), ClockOffset(3700.0)]
