"""The history of recent changes: watches resume from it, and further chunks of a list read a past revision.

Like apiserver/pkg/storage/cacher/watch_cache.go; the current objects are in `versioned_storage`.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile
from typing import Final

from localkube.apiserver.errors import ApiError, bad_request, expired
from localkube.apiserver.requests import WatchEvent
from localkube.apiserver.resources import Object
from localkube.apiserver.selectors import Predicate

GroupResource = tuple[str, str]  # group and plural of a resource
Key = tuple[str, str]  # namespace, "" for none, and name
WINDOW: Final = 5000  # changes


@dataclass(frozen=True, slots=True)
class Change:
    """One write: the object before and after it; None: it did not or does not exist."""

    revision: int
    group_resource: GroupResource
    key: Key
    old: Object | None
    new: Object | None


class History:
    """The last `size` changes of all resources, oldest first."""

    def __init__(self, size: int = WINDOW) -> None:
        self._changes: deque[Change] = deque()
        self._size = size
        self.floor = 0  # changes up to this revision are no longer kept

    def begin_at(self, revision: int) -> None:
        """Set the revision that the history starts after."""
        self.floor = max(self.floor, revision)

    def add(self, change: Change) -> None:
        """Append a change; drop the oldest one beyond the size."""
        self._changes.append(change)
        if len(self._changes) > self._size:
            self.floor = self._changes.popleft().revision

    def since(self, revision: int, latest: int) -> Iterator[Change]:
        """Return the changes after a revision.

        Raises ApiError 410 when they are no longer kept, 504 when the revision is in the future.
        """
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
        tail = []
        for change in reversed(self._changes):
            if change.revision <= revision:
                break
            tail.append(change)
        return reversed(tail)

    def state_at(
        self, group_resource: GroupResource, objects: dict[Key, Object], revision: int, latest: int
    ) -> dict[Key, Object]:
        """Return the objects of a resource at a revision, from those at the latest.

        Raises ApiError as `since`.
        """
        if revision == latest:
            return objects
        past = dict(objects)
        for change in reversed(list(self.since(revision, latest))):
            if change.group_resource != group_resource:
                continue
            if change.old is None:
                past.pop(change.key, None)
            else:
                past[change.key] = change.old
        return past


def parse_revision(text: str) -> int:
    """Return a resourceVersion as a number; raises ApiError 400 when it is none."""
    if not text.isdigit():
        raise bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def watch_event(change: Change, selects: Predicate) -> WatchEvent | None:
    """Return the event of a change for a watch with a selector, None if it matches neither before nor after.

    An object that no longer matches is DELETED, one that matches now is ADDED.
    """
    old, new = change.old, change.new
    matched = old is not None and selects(old)
    if new is not None and selects(new):
        return WatchEvent("MODIFIED" if matched else "ADDED", new, change.revision)
    if matched and old is not None:
        return WatchEvent("DELETED", _with_revision(old, change.revision), change.revision)
    return None


def _with_revision(obj: Object, revision: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
