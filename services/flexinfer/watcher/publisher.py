"""StatePublisher: keeps the state stream equal to the cache, subject by subject, without delay.

Of each subject at most one publish is in flight; what changes meanwhile is published once, in its newest
state, so a burst never queues up. A publish that is refused or unanswered makes the whole stream suspect, and
the comparison that follows heals it. Until one has succeeded there is no watermark: a stream of which a part is
missing would be taken for all that there is, and its Models for deleted.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from flexinfer.api.numbers import whole_number
from flexinfer.events.codec import StreamEntry
from flexinfer.events.events import StateEvent
from flexinfer.runtime.kubernetes.api import GPU_LEASES, MODELS, NODES, SHARED_GROUPS, ApiError, Kind
from flexinfer.runtime.nats.connection import NatsUnavailableError
from flexinfer.runtime.nats.state_writer import StaleWriteError
from flexinfer.runtime.runtime import Runtime
from flexinfer.watcher.cache import ClusterCache, SubjectKey, T, in_publish_order
from flexinfer.watcher.diff import Versions, ahead, differing, pending_event

log = logging.getLogger(__name__)
WATERMARK_SECONDS = 5.0
"""A watermark is published this often without a change."""
_QUIET_SECONDS = 0.1
"""It is published as soon as this long nothing was."""
_RETRY_SECONDS = 0.25
_REFUSALS = 2
"""How often the same subjects are refused again before the watermark is published without them."""
_FAILURES = (StaleWriteError, NatsUnavailableError)


class Stream(Protocol):
    """The state stream as its one writer uses it: `StateStream` of the runtime, or the simulation's."""

    @property
    def held(self) -> Mapping[str, StreamEntry]:
        """Subject -> what the stream holds, by its own replay and acknowledgements."""
        ...

    async def open(self) -> None:
        """Create what is missing and read back what the stream holds; waits for NATS."""
        ...

    async def publish(self, event: StateEvent) -> bool:
        """Publish a fact unless the stream holds it; returns whether it was published.

        Raises StaleWriteError if the stream is not what it was, NatsUnavailableError without an answer.
        """
        ...

    async def watermark(self) -> None:
        """Publish what readers must hold by now, while no publish is in flight. Raises as `publish` does."""
        ...

    async def suspect(self) -> None:
        """Return when `held` may no longer be true."""
        ...

    def mark_suspect(self) -> None:
        """Note that `held` may no longer be true."""
        ...


class StatePublisher:
    """Publishes nothing before the first comparison: a cache that is not synced proves nothing."""

    def __init__(
        self, runtime: Runtime, stream: Stream, cache: ClusterCache, tasks: asyncio.TaskGroup
    ) -> None:
        self._runtime, self._stream, self._cache, self._tasks = runtime, stream, cache, tasks
        self._open = False
        self._complete = False  # whether the stream has held everything since it was compared
        self._reached: Versions = {}
        self._in_flight: set[SubjectKey] = set()
        self._changed: set[SubjectKey] = set()  # while in flight
        self._missing: set[SubjectKey] = set()  # what the comparison has still to try
        self._failed: set[SubjectKey] = set()  # since the comparison began
        self._repeats = 0  # how often the same subjects have failed in a row
        self._published = asyncio.Event()
        self._tried = asyncio.Event()

    def enqueue(self, keys: Iterable[SubjectKey]) -> None:
        """Publish the state of these subjects."""
        if not self._open:
            return
        for key in in_publish_order(keys):
            if key in self._in_flight:
                self._changed.add(key)
                continue
            self._in_flight.add(key)
            self._tasks.create_task(self._publish_until_current(key))

    async def _publish_until_current(self, key: SubjectKey) -> None:
        try:
            await self._publish(key)
            while key in self._changed:
                await self._publish(key)
        except _FAILURES as failure:
            log.info("publish failed: %s; comparing the stream with the API", failure)
            self._refused(key)
        except Exception as error:  # whatever it is, it is this subject's alone
            log.exception("publish of %s failed", key.object_key)
            self._runtime.report_failure(key.object_key, error)
            self._refused(key)
        finally:
            self._changed.discard(key)
            self._in_flight.discard(key)
            self._was_tried(key)

    def _refused(self, key: SubjectKey) -> None:
        """Note that a subject is not published: the comparison tries it again."""
        self._complete = False
        self._failed.add(key)
        self._stream.mark_suspect()

    async def _publish(self, key: SubjectKey) -> None:
        self._changed.discard(key)
        event = pending_event(self._cache, self._stream.held, key, self._reached)
        if event is not None and await self._stream.publish(event):
            self._published.set()
        self._was_tried(key)

    def _was_tried(self, key: SubjectKey) -> None:
        """Note that a subject was tried once: one that never stops changing does not prolong a comparison."""
        self._missing.discard(key)
        if not self._missing:
            self._tried.set()

    async def reconcile(self, sync_event: asyncio.Event) -> None:
        """Compare the synced cache with the stream, at intervals and when it is suspect; until cancelled."""
        await sync_event.wait()
        while True:
            await self._compare()
            self._runtime.set_ready(True)
            interval = self._runtime.varied(self._runtime.settings.relist_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._stream.suspect()

    async def _compare(self) -> None:
        """Read back what the stream holds and publish what differs, then the watermark."""
        self._complete = False
        await self._stream.open()
        self._open = True
        self._reached = await self._versions_of_api()
        keys = differing(self._cache, self._stream.held, self._reached)
        if keys:
            log.info("the state stream differs from the API in %d subjects: publishing them", len(keys))
        self._complete = await self._publish_all(keys)
        if self._complete:
            await self._publish_watermark()
        if self._failed:
            await self._runtime.sleep(_RETRY_SECONDS)

    async def _publish_all(self, keys: set[SubjectKey]) -> bool:
        """Publish what the stream lacks; returns whether it holds all that it can hold.

        What it refuses again and again, while it holds others, is the refused subjects' own problem: too large, say.
        """
        previous, self._failed, self._missing = self._failed, set(), set(keys)
        self._tried.clear()
        self.enqueue(keys)
        if keys:
            await self._tried.wait()
        self._repeats = self._repeats + 1 if self._failed and self._failed == previous else 0
        holds_others = any(entry.body is not None for entry in self._stream.held.values())
        return not self._failed or (self._repeats >= _REFUSALS and holds_others)

    def compare(self) -> None:
        """Compare the cache with the stream soon, although no interval is over."""
        self._stream.mark_suspect()

    async def _versions_of_api(self) -> Versions:
        """Return the version that the API server has reached now, of each kind of which the stream is ahead.

        Asked after the stream was read: where it is lower still, the API server was restored from a backup. Asked
        for each comparison: a version is void only until the API server reaches it again.
        """
        later = ahead(self._cache, self._stream.held)
        versions = {
            "models": await self._version_of(MODELS) if "models" in later else None,
            "nodes": await self._version_of(NODES) if "nodes" in later else None,
            "sharedgroups": await self._version_of(SHARED_GROUPS) if "sharedgroups" in later else None,
            "gpuleases": await self._version_of(GPU_LEASES) if "gpuleases" in later else None,
        }
        for plural, version in versions.items():
            if version is not None and version < later[plural]:
                log.warning(
                    "the API server is at version %d, below %d of %s in the stream: it was restored; the stream follows",
                    version,
                    later[plural],
                    plural,
                )
        return {plural: version for plural, version in versions.items() if version is not None}

    async def _version_of(self, kind: Kind[T]) -> int | None:
        """Return the version of a list made now; None without an answer."""
        try:
            return whole_number((await self._runtime.cluster.list(kind)).version)
        except ApiError as error:
            log.info("whether the API server was restored is not known: %s", error)
            return None

    async def publish_watermarks(self) -> None:
        """Publish the watermark 100 ms after the last change, and every 5 s without one, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATERMARK_SECONDS):
                    await self._quiet_after_publish()
            if self._complete:
                await self._publish_watermark()

    async def _quiet_after_publish(self) -> None:
        """Return when something was published, and then nothing for a moment."""
        await self._published.wait()
        while self._published.is_set():
            self._published.clear()
            await self._runtime.sleep(_QUIET_SECONDS)

    async def _publish_watermark(self) -> None:
        try:
            await self._stream.watermark()
        except _FAILURES as failure:
            log.info("watermark not published: %s; comparing the stream with the API", failure)
            self._complete = False
            self._stream.mark_suspect()
            await self._runtime.sleep(_RETRY_SECONDS)
