"""What the reaper remembers beside the observed state: up to when the activity of each Model is in its status. Pure."""

from collections.abc import Collection, Mapping

import msgspec


class ActivityWritten(msgspec.Struct, frozen=True):
    """lastActiveTime of a Model was written, up to `last` (monotonic seconds)."""

    uid: str
    last: float


class Memory(msgspec.Struct, frozen=True):
    """uid -> up to when its activity is in its status, in monotonic seconds."""

    written: Mapping[str, float] = {}


def fold(memory: Memory, fact: ActivityWritten, _at: float) -> Memory:
    """Return the memory after a write of lastActiveTime."""
    return Memory({**memory.written, fact.uid: fact.last})


def forget(memory: Memory, uids: Collection[str]) -> Memory:
    """Return the memory without Models other than these."""
    return Memory({uid: last for uid, last in memory.written.items() if uid in uids})
