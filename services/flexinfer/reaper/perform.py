"""The reaper's effects: its verdict, and the memory of what it has written."""

from collections.abc import Sequence

from flexinfer.contracts import events
from flexinfer.contracts.events import AnyEvent
from flexinfer.contracts.fleet import Fleet
from flexinfer.reaper.decide import Touch
from flexinfer.runtime.reporting import report
from flexinfer.runtime.runtime import Runtime


async def perform(runtime: Runtime, _fleet: Fleet, action: Touch) -> Sequence[AnyEvent]:
    """Write verdict and lastActiveTime together."""
    replies = await report(runtime, action.report)
    return [*replies, events.ActivityWritten(key=action.key, last=action.last)]
