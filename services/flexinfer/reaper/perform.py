"""The reaper's effects: write Wanted together with lastActiveTime, and compare the clocks."""

from collections.abc import Callable, Sequence

from flexinfer.events.events import AnyEvent
from flexinfer.reaper.decide import RecordActivity
from flexinfer.reaper.memory import ActivityWritten, ClockOffset, Fact
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status

_COMPARE_SECONDS = 60.0
_TOLERANCE_SECONDS = 0.5


async def perform(runtime: Runtime, action: RecordActivity) -> Sequence[AnyEvent | Fact]:
    """Write condition and lastActiveTime together. Raises ApiError."""
    replies = await write_status(runtime, action.write)
    return [*replies, ActivityWritten(action.key, action.write.model.uid, action.last)]


async def compare_clocks(runtime: Runtime, remember: Callable[[Fact], None]) -> None:
    """Remember the offset between the clocks now and whenever it moves, until cancelled.

    It moves when the wall clock is set, and when a machine that was suspended resumes: the monotonic clock
    stands still meanwhile.
    """
    previous: float | None = None
    while True:
        offset = runtime.utc_now().timestamp() - runtime.clock()
        if previous is None or abs(offset - previous) > _TOLERANCE_SECONDS:
            previous = offset
            remember(ClockOffset(offset))
        await runtime.sleep(_COMPARE_SECONDS)
