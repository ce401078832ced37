"""EventRecorder: writes the Kubernetes Events of a controller, a moment after the write that they report.

client-go's record.EventRecorder without aggregation or rate limits. An Event is best effort: a failed write is dropped.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from localkube.apiserver.errors import ApiError
from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.resources import Object
from localkube.apiserver.store import Store

_WRITE_DELAY = timedelta(milliseconds=20)


class EventRecorder:
    """The Events of one controller. `due` is when `write` has something to do; None: nothing is pending."""

    def __init__(self, store: Store, now: Callable[[], datetime], component: str) -> None:
        events = store.registry.find("", "v1", "events")
        if events is None:
            raise LookupError("the registry offers no Events")
        self._store, self._now, self._component = store, now, component
        self._events = events
        self._pending: list[Object] = []
        self._count = 0
        self.due: datetime | None = None

    def record(self, obj: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """Queue an Event about an object; `write` creates it."""
        now = self._now()
        self._count += 1
        self._pending.append(self._event(obj, reason, message, "Warning" if warning else "Normal", now))
        self.due = self.due or now + _WRITE_DELAY

    def write(self) -> bool:
        """Create the Events that are due; returns whether there were any."""
        if self.due is None or self._now() < self.due:
            return False
        pending, self._pending, self.due = self._pending, [], None
        for event in pending:
            try:
                self._store.create(self._events, event["metadata"]["namespace"], event)
            except ApiError:  # its namespace is deleted, or the name is taken: Events are best effort
                continue
        return True

    def _event(self, obj: Object, reason: str, message: str, kind: str, now: datetime) -> Object:
        metadata = obj["metadata"]
        unique = f"{int(now.timestamp() * 1e6):x}{self._count % 0x1000:03x}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{unique}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": rfc3339(now),
            "lastTimestamp": rfc3339(now),
            "source": {"component": self._component},
            "reportingComponent": self._component,
        }
