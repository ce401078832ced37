"""The reaper's effect: write its condition together with lastActiveTime."""

from collections.abc import Sequence

from flexinfer.events.events import AnyEvent
from flexinfer.reaper.decide import RecordActivity
from flexinfer.reaper.memory import ActivityWritten
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status


async def perform(runtime: Runtime, action: RecordActivity) -> Sequence[AnyEvent | ActivityWritten]:
    """Write condition and lastActiveTime together. Raises ApiError."""
    replies = await write_status(runtime, action.write)
    return [*replies, ActivityWritten(action.write.model.uid, action.last)]
