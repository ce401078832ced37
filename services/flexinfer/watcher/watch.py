"""List and watch: one kind, from its list's version on, until cancelled.

A watch that is silent for longer than the server's bookmarks take is dead, whatever its socket says. What an
ended watch may have missed shows in the next list, deletions included. The list is repeated at intervals
although all seems well (resync).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from flexinfer.runtime.kubernetes.api import ApiError, Change, ExpiredError, Kind, Listing, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.watcher.cache import T

log = logging.getLogger(__name__)
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.2, 2.0
_SHORTEST_WATCH_SECONDS = 1.0
"""A watch that ends sooner and without a change is followed by a pause: the next would end as soon."""


class Handler(Protocol):
    """What takes lists and changes; it must not block."""

    def on_list(self, kind: Kind[T], listing: Listing[T]) -> None:
        """Take a list."""
        ...

    def on_change(self, kind: Kind[T], change: Change[T]) -> None:
        """Take one change."""
        ...


async def follow(runtime: Runtime, kind: Kind[T], handler: Handler) -> None:
    """Hand the lists and changes of a kind to a handler, through every outage; until cancelled."""
    back_off = _FIRST_BACK_OFF
    while True:
        started_at, retry_after = runtime.clock(), 0.0
        try:
            listing = await runtime.cluster.list(kind)
            handler.on_list(kind, listing)
            await _watch(runtime, kind, listing.version, handler)
            continue  # the next list is due
        except NotFoundError as error:
            if kind.optional:
                await _unserved(runtime, kind, handler)
                continue
            log.info("list or watch of %s failed: %s; retrying", kind.plural, error)
        except ExpiredError as error:
            log.info("watch of %s expired: %s; listing again", kind.plural, error)
        except ApiError as error:
            log.info("list or watch of %s failed: %s; retrying", kind.plural, error)
            retry_after = error.retry_after or 0.0
        except msgspec.DecodeError as error:
            log.warning("%s: the API server holds an object that cannot be read: %s", kind.plural, error)
        back_off = _FIRST_BACK_OFF if runtime.clock() - started_at > _LONGEST_BACK_OFF else back_off
        await runtime.sleep(max(retry_after, back_off) * (0.5 + runtime.random()))
        back_off = min(2 * back_off, _LONGEST_BACK_OFF)


async def _unserved(runtime: Runtime, kind: Kind[T], handler: Handler) -> None:
    """Hand over that there are no objects of a kind that the API server does not serve, and return when to look again."""
    handler.on_list(kind, Listing((), ""))
    await runtime.sleep(runtime.varied(runtime.settings.relist_seconds))


async def _watch(runtime: Runtime, kind: Kind[T], version: str, handler: Handler) -> None:
    """Watch until the next list is due; a watch that ends without an error is resumed from the last version.

    Raises ApiError.
    """
    due = runtime.clock() + runtime.varied(runtime.settings.relist_seconds)
    while (remaining := due - runtime.clock()) > 0:
        started_at, previous = runtime.clock(), version
        async for change in _until_silent(runtime, kind, version, remaining):
            version = change.version or version
            if change.object is not None:
                handler.on_change(kind, change)
        too_short = runtime.clock() - started_at < min(_SHORTEST_WATCH_SECONDS, remaining)
        if too_short and version == previous:
            await runtime.sleep(_FIRST_BACK_OFF)  # else this would be a tight loop of requests


async def _until_silent(
    runtime: Runtime, kind: Kind[T], version: str, remaining: float
) -> AsyncIterator[Change[T]]:
    """Yield changes for at most `remaining` seconds; ends sooner with the stream, or when it falls silent.

    Raises ApiError.
    """
    silence, loop = runtime.settings.silence_seconds, asyncio.get_running_loop()
    end = loop.time() + remaining
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(silence, remaining)) as deadline:
            async for change in runtime.cluster.watch(kind, version):
                yield change
                deadline.reschedule(min(loop.time() + silence, end))
