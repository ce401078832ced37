"""Notes: the Kubernetes Events that controllers write, held back until what they tell of has been told.

An Event is for people; nobody may wait for it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from localkube.apiserver.errors import ApiError
from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.resources import Object
from localkube.apiserver.store import Store

_HELD = timedelta(milliseconds=20)


class Notes:
    """The Events of one controller that are not written yet."""

    def __init__(self, store: Store, now: Callable[[], datetime], component: str) -> None:
        events = store.registry.find("", "v1", "events")
        if events is None:
            raise LookupError("the registry offers no Events")
        self._store, self._now, self._component = store, now, component
        self._events = events
        self._waiting: list[Object] = []
        self._count = 0
        self.due: datetime | None = None

    def tell(self, about: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """Say something about an object, a moment from now."""
        now = self._now()
        self._count += 1
        self._waiting.append(self._event(about, reason, message, "Warning" if warning else "Normal", now))
        self.due = self.due or now + _HELD

    def write(self) -> bool:
        """Write what is due; returns whether there was any."""
        if self.due is None or self._now() < self.due:
            return False
        waiting, self._waiting, self.due = self._waiting, [], None
        for event in waiting:
            try:
                self._store.create(self._events, event["metadata"]["namespace"], event)
            except ApiError:  # its namespace is gone, or the name is taken: it was only a courtesy
                continue
        return True

    def _event(self, about: Object, reason: str, message: str, kind: str, now: datetime) -> Object:
        metadata = about["metadata"]
        unique = f"{int(now.timestamp() * 1e6):x}{self._count % 0x1000:03x}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{unique}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
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
