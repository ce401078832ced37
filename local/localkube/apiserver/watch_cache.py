"""The window of past changes: what a watch can be resumed from, and how a listing's second page sees the first page's world."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile
from typing import Final

from localkube.apiserver.errors import ApiError, expired
from localkube.apiserver.requests import WatchEvent
from localkube.apiserver.resources import Object
from localkube.apiserver.selectors import Predicate

Place = tuple[str, str]  # group and plural of a resource
Key = tuple[str, str]  # namespace, "" for none, and name
WINDOW: Final = 5000


@dataclass(frozen=True, slots=True)
class Change:
    """One write: what was there before, and what is there now."""

    revision: int
    place: Place
    key: Key
    old: Object | None
    new: Object | None


class History:
    """The last changes, oldest first."""

    def __init__(self, size: int = WINDOW) -> None:
        self._changes: deque[Change] = deque()
        self._size = size
        self.floor = 0  # changes up to this revision are forgotten

    def begin_at(self, revision: int) -> None:
        """Say that nothing is known of what led to this revision."""
        self.floor = max(self.floor, revision)

    def add(self, change: Change) -> None:
        """Remember a change, and forget the oldest one too many."""
        self._changes.append(change)
        if len(self._changes) > self._size:
            self.floor = self._changes.popleft().revision

    def since(self, revision: int, latest: int) -> Iterator[Change]:
        """Return the changes after a revision; ApiError when they are not known any more, or not yet."""
        if revision < self.floor:
            raise expired(f"too old resource version: {revision} ({self.floor + 1})")
        if revision > latest:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            raise ApiError(
                504,
                "Timeout",
                f"Too large resource version: {revision}, current: {latest}",
                {"causes": [cause], "retryAfterSeconds": 1},
            )
        if latest - revision < len(self._changes):
            return self._tail(revision)
        return dropwhile(lambda change: change.revision <= revision, iter(list(self._changes)))

    def _tail(self, revision: int) -> Iterator[Change]:
        found = []
        for change in reversed(self._changes):
            if change.revision <= revision:
                break
            found.append(change)
        return reversed(found)

    def rewound(
        self, place: Place, objects: dict[Key, Object], revision: int, latest: int
    ) -> dict[Key, Object]:
        """Return the objects of a resource as they were at a revision."""
        if revision == latest:
            return objects
        past = dict(objects)
        for change in reversed(list(self.since(revision, latest))):
            if change.place != place:
                continue
            if change.old is None:
                past.pop(change.key, None)
            else:
                past[change.key] = change.old
        return past


def seen(change: Change, selects: Predicate) -> WatchEvent | None:
    """Return a change as a watcher with these selectors sees it: what leaves the selection is DELETED to him."""
    old, new = change.old, change.new
    was = old is not None and selects(old)
    if new is not None and selects(new):
        return WatchEvent("MODIFIED" if was else "ADDED", new, change.revision)
    if was and old is not None:
        return WatchEvent("DELETED", _at(old, change.revision), change.revision)
    return None


def _at(obj: Object, revision: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
