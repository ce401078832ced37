"""EventRecorder: the Events about Pods, written in the background: nothing waits for them.

client-go's record.EventRecorder: the same reason and message about the same Pod increments the count of one Event.
"""

import asyncio
import contextlib
from datetime import UTC, datetime

import msgspec

from localkube.kubelet.api_errors import ApiError, NotFoundError
from localkube.kubelet.client import Client, Object
from localkube.kubelet.pod_status import stamp

_MAX_QUEUED = 500
_DELAY = 0.03
"""Seconds before an Event is written, so that status writes go first."""


class RecordedEvent(msgspec.Struct):
    """An Event that exists."""

    path: str
    count: int = 1


class EventRecorder:
    """The Events of one node. They are best effort: while the API server is unavailable, the oldest are dropped."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._queue: asyncio.Queue[tuple[Object, str, str, str, datetime]] = asyncio.Queue()
        self._recorded: dict[tuple[str, str, str], RecordedEvent] = {}

    def record(self, pod: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """Queue an Event about a Pod."""
        kind = "Warning" if warning else "Normal"
        if self._queue.qsize() >= _MAX_QUEUED:
            self._queue.get_nowait()
        self._queue.put_nowait((pod, kind, reason, message, datetime.now(UTC)))

    async def run(self) -> None:
        """Write queued Events until cancelled."""
        while True:
            event = await self._queue.get()
            await asyncio.sleep(_DELAY)
            while True:
                with contextlib.suppress(ApiError):
                    await self._write(*event)
                if self._queue.empty():
                    break
                event = self._queue.get_nowait()

    async def _write(self, pod: Object, kind: str, reason: str, message: str, now: datetime) -> None:
        key = (pod["metadata"]["uid"], reason, message)
        entry = self._recorded.get(key)
        if entry is not None:
            entry.count += 1
            with contextlib.suppress(NotFoundError):
                await self._client.merge(entry.path, {"count": entry.count, "lastTimestamp": stamp(now)})
                return
        event = _event(pod, kind, reason, message, now)
        event["source"] = {"component": "kubelet", "host": self._node}
        event["reportingComponent"], event["reportingInstance"] = "kubelet", self._node
        root = f"/api/v1/namespaces/{pod['metadata']['namespace']}/events"
        await self._client.create(root, event)
        if len(self._recorded) > _MAX_QUEUED:
            self._recorded.pop(next(iter(self._recorded)))
        self._recorded[key] = RecordedEvent(f"{root}/{event['metadata']['name']}")


def _event(pod: Object, kind: str, reason: str, message: str, now: datetime) -> Object:
    metadata = pod["metadata"]
    unique = f"{int(now.timestamp() * 1e6):x}{abs(hash((reason, message))) % 0xFFF:03x}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{unique}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
    }
