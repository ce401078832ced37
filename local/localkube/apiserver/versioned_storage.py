"""Versioned storage: all objects in memory, one revision counter, the recent history and the subscribers.

It stands for etcd and the watch cache (apiserver/pkg/storage/{etcd3,cacher}). A write goes to the journal,
then to memory, then to the subscribers, who get all writes in the order of revisions, also when one of them
writes. The rules of resources are applied before, in `store` and `write_pipeline`.
"""

import bisect
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from localkube.apiserver.journal import Journal, Record
from localkube.apiserver.resources import Object
from localkube.apiserver.watch_cache import Change, GroupResource, History, Key

Observer = Callable[[Change], None]


@dataclass(slots=True)
class Table:
    """The objects of one resource, and their keys in the order of lists."""

    objects: dict[Key, Object] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)

    def keys_in(self, namespace: str | None) -> list[Key]:
        """Return the keys of a namespace, sorted; None: of all."""
        if namespace is None:
            return self.keys
        first, last = (namespace, ""), (namespace + "\0", "")
        return self.keys[bisect.bisect_left(self.keys, first) : bisect.bisect_left(self.keys, last)]

    def put(self, key: Key, obj: Object) -> None:
        """Add or replace an object."""
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.objects[key] = obj

    def drop(self, key: Key) -> None:
        """Remove an object, if it exists."""
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]


class VersionedStorage:
    """All objects, recent changes and subscribers.

    `before_commit` is called with a change before it is journaled; by raising it refuses the change.
    """

    def __init__(self, before_commit: Callable[[Change], None], journal: Journal | None = None) -> None:
        self.revision = 0
        self._before_commit = before_commit
        self._journal = journal
        self._tables: dict[GroupResource, Table] = {}
        self._history = History()
        self._listeners: dict[GroupResource, dict[object, Observer]] = {}
        self._observers: dict[object, Observer] = {}
        self._undelivered: deque[Change] = deque()
        self._delivering = False
        if journal is not None:
            self._restore(journal)

    def table(self, group_resource: GroupResource) -> Table:
        """Return the current objects of a resource."""
        return self._tables.setdefault(group_resource, Table())

    def at(self, group_resource: GroupResource, revision: int) -> Table:
        """Return the objects of a resource at a revision; raises ApiError 410 when it is no longer kept."""
        table = self.table(group_resource)
        if revision == self.revision:
            return table
        past = self._history.state_at(group_resource, table.objects, revision, self.revision)
        return Table(past, sorted(past))

    def each(self) -> Iterator[tuple[GroupResource, Key, Object]]:
        """Yield every object, with its resource and its namespace and name."""
        for group_resource, table in list(self._tables.items()):
            for key in list(table.keys):
                yield group_resource, key, table.objects[key]

    def commit(self, group_resource: GroupResource, key: Key, new: Object | None) -> Object:
        """Store an object (None: delete it) under the next revision and deliver the change.

        Returns it with its resourceVersion, or the last state of a deleted one. Raises JournalError when it
        cannot be written to disk, and whatever `before_commit` raises; nothing is stored then.
        """
        table = self.table(group_resource)
        old = table.objects.get(key)
        revision = self.revision + 1
        if new is not None:
            new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(revision)}}
        change = Change(revision, group_resource, key, old, new)
        self._before_commit(change)
        if self._journal is not None:
            self._journal.append(_record(change))
        self._keep(change)
        if self._journal is not None and self._journal.needs_compaction:
            self._journal.compact(self.revision, self._records())
        self._deliver(change)
        return new or old or {}

    def listen(
        self, group_resource: GroupResource, observer: Observer, since: int | None
    ) -> Callable[[], None]:
        """Subscribe to the changes of a resource after a revision (None: from now on).

        Return what unsubscribes. Past changes are delivered before this returns. Raises ApiError 410 when
        they are no longer kept, 504 for a revision in the future.
        """
        if since is not None:
            for change in self._history.since(since, self.revision):
                if change.group_resource == group_resource:
                    observer(change)
        return _added(self._listeners.setdefault(group_resource, {}), observer)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Subscribe to every change from now on; return what unsubscribes."""
        return _added(self._observers, observer)

    def _keep(self, change: Change) -> None:
        self.revision = change.revision
        table = self.table(change.group_resource)
        if change.new is not None:
            table.put(change.key, change.new)
        else:
            table.drop(change.key)
        self._history.add(change)

    def _deliver(self, change: Change) -> None:
        """Deliver a change to all subscribers; changes that they make are queued behind it."""
        self._undelivered.append(change)
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._undelivered:
                change = self._undelivered.popleft()
                for observer in (
                    *self._listeners.get(change.group_resource, {}).values(),
                    *self._observers.values(),
                ):
                    observer(change)
        finally:
            self._delivering = False

    def _restore(self, journal: Journal) -> None:
        """Replay the journal.

        Its changes since the last snapshot are kept as history, so watches can resume from them.
        """
        for record in journal.replay():
            group_resource = (record.group, record.plural)
            key = _key_of(record)
            change = Change(
                record.revision, group_resource, key, self.table(group_resource).objects.get(key), record.obj
            )
            self._before_commit(change)
            if record.revision > journal.base_revision:
                self._history.begin_at(journal.base_revision)
                self._keep(change)
            elif record.obj is not None:
                self.table(group_resource).put(key, record.obj)
        self.revision = max(self.revision, journal.base_revision)
        self._history.begin_at(journal.base_revision)
        journal.compact(self.revision, self._records())

    def _records(self) -> Iterator[Record]:
        for group_resource, _, obj in self.each():
            yield Record(int(obj["metadata"]["resourceVersion"]), *group_resource, obj)


def _record(change: Change) -> Record:
    if change.new is not None:
        return Record(change.revision, *change.group_resource, change.new)
    return Record(change.revision, *change.group_resource, None, *change.key)


def _key_of(record: Record) -> Key:
    if record.obj is None:
        return (record.namespace, record.name)
    return (record.obj["metadata"].get("namespace", ""), record.obj["metadata"]["name"])


def _added(listeners: dict[object, Observer], observer: Observer) -> Callable[[], None]:
    token = object()
    listeners[token] = observer

    def stop() -> None:
        listeners.pop(token, None)

    return stop
