"""EventRecorder: what the node tells people about a Pod, beside the path: nothing waits for them.

The same words about the same Pod count up one Event instead of making many.
"""

import asyncio
import contextlib
from datetime import UTC, datetime

import msgspec

from localkube.kubelet.api_errors import ApiError, NotFoundError
from localkube.kubelet.client import Client, Object
from localkube.kubelet.pod_status import stamp

_ROOM = 500
_YIELD = 0.03
"""Seconds for which Events let status writes go first."""


class RecordedEvent(msgspec.Struct):
    """An Event that exists."""

    path: str
    count: int = 1


class EventRecorder:
    """The Events of one node. When the API is away they are dropped, oldest first: they are a courtesy."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._queue: asyncio.Queue[tuple[Object, str, str, str, datetime]] = asyncio.Queue()
        self._said: dict[tuple[str, str, str], RecordedEvent] = {}

    def record(self, pod: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """Say something about a Pod."""
        kind = "Warning" if warning else "Normal"
        if self._queue.qsize() >= _ROOM:
            self._queue.get_nowait()
        self._queue.put_nowait((pod, kind, reason, message, datetime.now(UTC)))

    async def run(self) -> None:
        """Write what was said, for ever."""
        while True:
            told = await self._queue.get()
            await asyncio.sleep(_YIELD)
            while True:
                with contextlib.suppress(ApiError):
                    await self._write(*told)
                if self._queue.empty():
                    break
                told = self._queue.get_nowait()

    async def _write(self, pod: Object, kind: str, reason: str, message: str, now: datetime) -> None:
        key = (pod["metadata"]["uid"], reason, message)
        said = self._said.get(key)
        if said is not None:
            said.count += 1
            with contextlib.suppress(NotFoundError):
                await self._client.merge(said.path, {"count": said.count, "lastTimestamp": stamp(now)})
                return
        event = _event(pod, kind, reason, message, now)
        event["source"] = {"component": "kubelet", "host": self._node}
        event["reportingComponent"], event["reportingInstance"] = "kubelet", self._node
        root = f"/api/v1/namespaces/{pod['metadata']['namespace']}/events"
        await self._client.create(root, event)
        if len(self._said) > _ROOM:
            self._said.pop(next(iter(self._said)))
        self._said[key] = RecordedEvent(f"{root}/{event['metadata']['name']}")


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
