"""The courier: keeps the state stream equal to the picture, subject by subject, with as little delay as there can be.

Of each subject at most one publish is under way; what changes meanwhile is published once, in its newest state, so a burst never
queues up. A refused or unanswered publish puts the whole stream in doubt, and the comparison that follows heals it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from flexinfer.runtime.nats.connection import NatsUnavailableError
from flexinfer.runtime.nats.state_writer import StaleWriteError
from flexinfer.runtime.runtime import Runtime
from flexinfer.watcher.cache import ClusterCache, SubjectKey, in_order
from flexinfer.watcher.diff import differing, pending_event
from flexinfer.watcher.ports import Stream

log = logging.getLogger(__name__)
_MARK_SECONDS, _STILL_SECONDS, _SETTLE_SECONDS, _PAUSE_SECONDS = 5.0, 0.1, 10.0, 0.25
_TROUBLE = (StaleWriteError, NatsUnavailableError)


class StatePublisher:
    """Publishes; says nothing before the first comparison, since a picture that is not whole proves nothing."""

    def __init__(
        self, runtime: Runtime, stream: Stream, picture: ClusterCache, tasks: asyncio.TaskGroup
    ) -> None:
        self._runtime, self._stream, self._picture, self._tasks = runtime, stream, picture, tasks
        self._open = False
        self._under_way: set[SubjectKey] = set()
        self._again: set[SubjectKey] = set()
        self._moved = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    def touch(self, abouts: Iterable[SubjectKey]) -> None:
        """Publish how these things look now."""
        if not self._open:
            return
        for about in in_order(abouts):
            if about in self._under_way:
                self._again.add(about)
                continue
            self._under_way.add(about)
            self._settled.clear()
            self._tasks.create_task(self._carry(about))

    async def _carry(self, about: SubjectKey) -> None:
        try:
            await self._publish(about)
            while about in self._again:
                await self._publish(about)
        except _TROUBLE as trouble:
            log.info("publishing: %s", trouble)
            self._stream.mark_suspect()
        finally:
            self._again.discard(about)
            self._under_way.discard(about)
            if not self._under_way:
                self._settled.set()

    async def _publish(self, about: SubjectKey) -> None:
        self._again.discard(about)
        event = pending_event(self._picture, self._stream.held, about)
        if event is not None and await self._stream.publish(event):
            self._moved.set()

    async def keep(self, whole: asyncio.Event) -> None:
        """Compare the picture with the stream: once it is whole, at every doubt, and at intervals."""
        await whole.wait()
        while True:
            await self._compare()
            self._runtime.set_ready(True)
            interval = self._runtime.settings.relist_seconds * (0.8 + 0.4 * self._runtime.random())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._stream.suspect()

    async def _compare(self) -> None:
        """Read back what the stream holds and publish what differs."""
        await self._stream.open()
        self._open = True
        different = differing(self._picture, self._stream.held)
        if different:
            log.info("the stream differs from the API in %d subjects", len(different))
        self.touch(different)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._settled.wait()
        await self._mark()

    async def mark(self) -> None:
        """Tell the watermark a moment after the last change, and every few seconds without one."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MARK_SECONDS):
                    await self._still()
            if self._open:
                await self._mark()

    async def _still(self) -> None:
        """Return when something was published, and then nothing for a moment."""
        await self._moved.wait()
        while self._moved.is_set():
            self._moved.clear()
            await self._runtime.sleep(_STILL_SECONDS)

    async def _mark(self) -> None:
        try:
            await self._stream.watermark()
        except _TROUBLE as trouble:
            log.info("watermark: %s", trouble)
            self._stream.mark_suspect()
            await self._runtime.sleep(_PAUSE_SECONDS)
