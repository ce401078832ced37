"""Memory: what the reaper has written, and the offset between its clocks. Pure."""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec


class ActivityWritten(msgspec.Struct, frozen=True):
    """lastActiveTime of the Model of this key and uid was written, up to `last` (monotonic seconds)."""

    key: str
    uid: str
    last: float


class ClockOffset(msgspec.Struct, frozen=True):
    """Seconds from the monotonic clock to POSIX time, as last measured."""

    seconds: float


Fact: TypeAlias = ActivityWritten | ClockOffset


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """`written` is uid -> up to when its activity is in its status, in monotonic seconds.

    `clock_offset` turns monotonic into POSIX seconds, in messages alone: nothing is decided by wall-clock
    time (DESIGN, law 8).
    """

    written: Mapping[str, float] = {}
    clock_offset: float | None = None


def remember(memory: Memory, fact: Fact, _at: float) -> Memory:
    """Return the memory after a write of lastActiveTime, or after the clocks were compared."""
    match fact:
        case ActivityWritten(uid=uid, last=last):
            return msgspec.structs.replace(memory, written={**memory.written, uid: last})
        case ClockOffset(seconds=seconds):
            return msgspec.structs.replace(memory, clock_offset=seconds)


def forget(memory: Memory, uid: str) -> Memory:
    """Return the memory without a Model."""
    times = {other: last for other, last in memory.written.items() if other != uid}
    return msgspec.structs.replace(memory, written=times)
