"""Event expiry: deletes an Event one hour after its last write.

kube-apiserver gives Events a lease in etcd (`--event-ttl`, 1h). Here they are in a queue in the order of their last writes, so that each
costs the same however many there are. One that was written again has a later entry too; its earlier one is skipped.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from localkube.apiserver.resources import Object
from localkube.apiserver.store import Store
from localkube.apiserver.watch_cache import Change, GroupResource, Key
from localkube.controllers.workqueue import try_write

TTL: Final = timedelta(hours=1)
_BATCH: Final = timedelta(seconds=10)
"""Events that expire within this time of each other are deleted together."""
_EVENTS: Final[GroupResource] = ("", "events")


class _Entry(NamedTuple):
    due: datetime
    key: Key
    version: str


class EventExpiry:
    """The controller."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        entries = [
            _entry(key, obj, _written(obj, now()))
            for resource, key, obj in store.each()
            if resource == _EVENTS
        ]
        self._queue = deque(sorted(entries))
        store.observe(self._on_change)

    def step(self) -> bool:
        """Delete every Event that has expired; returns whether there were any."""
        now, expired = self._now(), False
        while self._queue and self._queue[0].due <= now:
            expired = self._expire(self._queue.popleft()) or expired
        return expired

    def next_deadline(self) -> datetime | None:
        """Return when the next Events are deleted; None: there are none."""
        return self._queue[0].due + _BATCH if self._queue else None

    def _on_change(self, change: Change) -> None:
        if change.group_resource == _EVENTS and change.new is not None:
            self._queue.append(_entry(change.key, change.new, self._now()))

    def _expire(self, entry: _Entry) -> bool:
        res = self._store.resource(_EVENTS)
        event = self._store.find(res, *entry.key) if res is not None else None
        if res is None or event is None or event["metadata"]["resourceVersion"] != entry.version:
            return False
        return try_write(lambda: self._store.delete(res, *entry.key))


def _entry(key: Key, obj: Object, written_at: datetime) -> _Entry:
    return _Entry(written_at + TTL, key, obj["metadata"]["resourceVersion"])


def _written(event: Object, now: datetime) -> datetime:
    """Return when an Event that was read from the journal was last written, as far as it says so."""
    texts = (event["metadata"].get("creationTimestamp"), event.get("lastTimestamp"))
    times = [datetime.fromisoformat(text).astimezone(UTC) for text in texts if text]
    return min(now, max(times, default=now))
