"""List, then watch from the list's version: for one kind, for ever.

A watch that says nothing for longer than the server's bookmarks take is dead, whatever its socket says. What an ended watch may have
missed shows in the next list, deletions included. A list is made again at intervals even when all seems well.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

import msgspec

from flexinfer.runtime.kubernetes.api import ApiError, Change, ExpiredError, Kind, Listing
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
_SOUND_SECONDS = 1.0
T = TypeVar("T")


class Take(Protocol):
    """Where what is seen goes; it must not wait."""

    def listed(self, kind: Kind[Any], listing: Listing[Any]) -> None:
        """Take a whole list."""
        ...

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        """Take one change."""
        ...


async def follow(runtime: Runtime, kind: Kind[Any], take: Take) -> None:
    """Tell everything about a kind, through every outage."""
    pause = _FIRST_PAUSE
    while True:
        began, asked = runtime.clock(), 0.0
        try:
            listing = await runtime.cluster.list(kind)
            take.listed(kind, listing)
            await _watch(runtime, kind, listing.version, take)
            continue  # time for another list
        except ExpiredError as error:
            log.info("%s: listing again: %s", kind.plural, error)
        except ApiError as error:
            log.info("%s: %s", kind.plural, error)
            asked = error.retry_after or 0.0
        except msgspec.DecodeError as error:
            log.warning("%s: the API holds something unreadable: %s", kind.plural, error)
        pause = _FIRST_PAUSE if runtime.clock() - began > _LONGEST_PAUSE else pause
        await runtime.sleep(max(asked, pause) * (0.5 + runtime.random()))
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _watch(runtime: Runtime, kind: Kind[Any], version: str, take: Take) -> None:
    """Watch until it is time for another list; a watch that ended in good order goes on from where it was."""
    due = runtime.clock() + runtime.settings.relist_seconds * (0.8 + 0.4 * runtime.random())
    while (left := due - runtime.clock()) > 0:
        began, seen = runtime.clock(), version
        async for change in _until_silent(runtime, kind, version, left):
            version = change.version or version
            if change.object is not None:
                take.changed(kind, change)
        if seen == version and runtime.clock() - began < min(_SOUND_SECONDS, left):
            await runtime.sleep(_FIRST_PAUSE)  # it ended before it began: do not ask in a tight loop


async def _until_silent(
    runtime: Runtime, kind: Kind[T], version: str, left: float
) -> AsyncIterator[Change[T]]:
    """Yield changes for `left` seconds at most; ends early when the stream does, or when it falls silent."""
    silence, loop = runtime.settings.silence_seconds, asyncio.get_running_loop()
    end = loop.time() + left
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(silence, left)) as deadline:
            async for change in runtime.cluster.watch(kind, version):
                yield change
                deadline.reschedule(min(loop.time() + silence, end))
