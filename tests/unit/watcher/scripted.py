"""A small API server in memory whose failures are scripted, and a stream that is a dict."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import msgspec

from flexinfer.api.conditions import STALLED, Condition
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model, ModelStatus
from flexinfer.events import codec, events, subjects
from flexinfer.events.codec import StreamEntry
from flexinfer.events.events import StateEvent
from flexinfer.runtime.kubernetes.api import (
    MODELS,
    Change,
    ConflictError,
    InvalidError,
    Kind,
    Listing,
    NotFoundError,
)
from flexinfer.runtime.nats.connection import NatsUnavailableError
from flexinfer.runtime.nats.state_writer import StaleWriteError

T = TypeVar("T")


class ScriptedCluster:
    """`runtime.kubernetes.api.Cluster` over dicts.

    `faults` are raised by the next calls of a method, in order.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 100
        self.faults: dict[str, list[Exception]] = {}
        self.asked: list[tuple[str, str, str]] = []  # method, plural, version or key
        self.written: list[Any] = []
        self.deaf = False
        self._watchers: dict[str, list[asyncio.Queue[Change[Any] | None]]] = {}

    def put(self, kind: Kind[T], item: T) -> T:
        """Store an object under a new version and notify the watches."""
        self.version += 1
        stored = _versioned(item, self.version)
        objects, key = self.objects.setdefault(kind.plural, {}), stored.metadata.key
        self._notify(kind, Change("MODIFIED" if key in objects else "ADDED", stored, str(self.version)))
        objects[key] = stored
        return stored  # type: ignore[no-any-return]

    def drop(self, kind: Kind[Any], key: str) -> None:
        """Delete an object and notify the watches."""
        self.version += 1
        deleted = _versioned(self.objects[kind.plural].pop(key), self.version)
        self._notify(kind, Change("DELETED", deleted, str(self.version)))

    def bookmark(self, kind: Kind[Any], version: str) -> None:
        """Send a bookmark."""
        self._notify(kind, Change("BOOKMARK", None, version))

    def end_watches(self, kind: Kind[Any]) -> None:
        """End the watches of a kind without an error."""
        for queue in self._watchers.get(kind.plural, []):
            queue.put_nowait(None)

    def watched(self, kind: Kind[Any]) -> int:
        """Return how many watches of a kind are open."""
        return len(self._watchers.get(kind.plural, []))

    def _notify(self, kind: Kind[Any], change: Change[Any]) -> None:
        for queue in self._watchers.get(kind.plural, []) if not self.deaf else []:
            queue.put_nowait(change)

    def _fail(self, method: str) -> None:
        if self.faults.get(method):
            raise self.faults[method].pop(0)

    async def list(
        self, kind: Kind[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        """Return all objects of a kind."""
        await asyncio.sleep(0)
        self.asked.append(("list", kind.plural, ""))
        self._fail("list")
        return Listing(tuple(self.objects.get(kind.plural, {}).values()), str(self.version))

    async def watch(self, kind: Kind[T], version: str) -> AsyncIterator[Change[T]]:
        """Yield changes until the watch is ended."""
        self.asked.append(("watch", kind.plural, version))
        self._fail("watch")
        queue: asyncio.Queue[Change[T] | None] = asyncio.Queue()
        self._watchers.setdefault(kind.plural, []).append(queue)
        try:
            while (change := await queue.get()) is not None:
                self._fail("change")
                yield change
        finally:
            self._watchers[kind.plural].remove(queue)

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return one object."""
        await asyncio.sleep(0)
        stored = self.objects.get(kind.plural, {}).get(f"{namespace}/{name}")
        if stored is None:
            raise NotFoundError(f"{kind.plural} {name} not found", 404)
        return stored  # type: ignore[no-any-return]

    async def apply(
        self, kind: Kind[T], namespace: str, body: Any, *, manager: str, subresource: str = ""
    ) -> T:
        """Merge a status: conditions by type, fields by name."""
        await asyncio.sleep(0)
        self._fail("apply")
        previous: Any = await self.get(kind, namespace, body["metadata"]["name"])
        if previous.metadata.resource_version != body["metadata"]["resourceVersion"]:
            raise ConflictError("the object has been modified", 409)
        self.written.append(body["status"])
        return self.put(MODELS, _with_status(previous, body["status"]))  # type: ignore[return-value]

    async def create(self, kind: Kind[T], namespace: str, body: Any) -> T:
        """Accept a Kubernetes Event."""
        return body  # type: ignore[no-any-return]

    async def replace(
        self, kind: Kind[T], namespace: str, name: str, body: Any, *, subresource: str = ""
    ) -> T:
        """Raise NotImplementedError: the watcher never replaces."""
        raise NotImplementedError

    async def patch(
        self, kind: Kind[T], namespace: str, name: str, operations: Sequence[Any], *, subresource: str = ""
    ) -> T:
        """Replace the status of an object."""
        await asyncio.sleep(0)
        self._fail("patch")
        assert subresource == "status"
        previous: Any = await self.get(kind, namespace, name)
        guard, replacement = operations
        if guard != {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": previous.metadata.resource_version,
        }:
            raise InvalidError("the test of a patch failed", 422)
        assert (replacement["op"], replacement["path"]) == ("replace", "/status")
        status = msgspec.convert(replacement["value"], ModelStatus)
        replaced: T = msgspec.structs.replace(previous, status=status, unreadable_status=())
        return self.put(kind, replaced)

    async def merge(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """Keep a merge patch."""
        self._fail("merge")
        self.written.append(body)
        return body  # type: ignore[no-any-return]

    async def delete(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        *,
        uid: str = "",
        version: str = "",
        grace: int | None = None,
    ) -> None:
        """Raise NotImplementedError: the watcher never deletes."""
        raise NotImplementedError


class DictStream:
    """`watcher.publisher.Stream` over a dict."""

    def __init__(self) -> None:
        self.store: dict[str, StreamEntry] = {}
        self.held: dict[str, StreamEntry] = {}
        self.published: list[StateEvent] = []
        self.marks = 0
        self.marked: list[set[str]] = []  # what was held at each watermark
        self.refused: set[str] = set()  # subjects that are too large, say
        self.faults: list[Exception] = []
        self.gate: asyncio.Event | None = None
        self._sequence = 0
        self._doubt = asyncio.Event()

    async def open(self) -> None:
        """Read back the store."""
        self._doubt.clear()
        await asyncio.sleep(0)
        self.held = dict(self.store)

    async def publish(self, event: StateEvent) -> bool:
        """Store a fact unless it is held. Raises StaleWriteError if what is held is not what is stored."""
        subject, deletion = subjects.subject_of(event), isinstance(event, events.DELETIONS)
        body, entry = codec.encode(event), self.held.get(subject)
        if entry is not None and (entry.body is None if deletion else entry.body == body):
            return False
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        if subject in self.refused:
            raise NatsUnavailableError(f"{subject}: MaxPayloadError")
        if entry != self.store.get(subject):
            self.mark_suspect()
            raise StaleWriteError(subject)
        self._sequence += 1
        self.store[subject] = self.held[subject] = StreamEntry(self._sequence, None if deletion else body)
        self.published.append(event)
        return True

    async def watermark(self) -> None:
        """Count, and note what is held."""
        self.marks += 1
        self.marked.append({subject for subject, entry in self.held.items() if entry.body is not None})

    async def suspect(self) -> None:
        """Return once the stream is suspect."""
        await self._doubt.wait()

    def mark_suspect(self) -> None:
        """Make the stream suspect."""
        self._doubt.set()

    def event(self, subject: str) -> StateEvent | None:
        """Return what the store holds for a subject, as a reader observes it."""
        entry = self.store.get(subject)
        return codec.decode(entry.body) if entry is not None and entry.body is not None else None  # type: ignore[return-value]


def _versioned(item: Any, version: int) -> Any:
    meta: Metadata = msgspec.structs.replace(item.metadata, resource_version=str(version))
    return msgspec.structs.replace(item, metadata=meta)


def _with_status(model: Model, status: dict[str, Any]) -> Model:
    written = [msgspec.convert(c, Condition) for c in status["conditions"]]
    own_types = {STALLED} | {c.type for c in written}  # what a manager leaves out, server-side apply removes
    kept = tuple(c for c in model.status.conditions if c.type not in own_types)
    own = msgspec.convert({k: v for k, v in status.items() if k != "conditions"}, ModelStatus)
    after = msgspec.structs.replace(
        model.status,
        phase=own.phase,
        reason=own.reason,
        message=own.message,
        observed_generation=own.observed_generation,
        conditions=(*kept, *written),
    )
    return msgspec.structs.replace(model, status=after)
