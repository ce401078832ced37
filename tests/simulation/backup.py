"""A store that is restored from a backup, as an API server whose etcd is: all objects and the revision go back.

What was written since the backup never happened. Resource versions and turns are given out again, watches break, and a
version of the former life is in the future for a while.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

from flexinfer.runtime.kubernetes import api
from localkube.apiserver.journal import Journal, Record
from localkube.apiserver.requests import Query
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Listener, Store
from localkube.apiserver.versioned_storage import Observer, VersionedStorage
from localkube.apiserver.watch_cache import Change, GroupResource, Key
from tests.store_cluster import StoreCluster

T = TypeVar("T")


class Backup(NamedTuple):
    """Every object at a revision."""

    revision: int
    objects: dict[tuple[GroupResource, Key], Object]


class _Journal:
    """The part of a Journal that a storage reads a backup from; nothing is written."""

    needs_compaction = False

    def __init__(self, backup: Backup) -> None:
        self.base_revision, self._backup = backup.revision, backup

    def replay(self) -> Iterator[Record]:
        """Yield each object of the backup."""
        for (group_resource, _), obj in self._backup.objects.items():
            yield Record(int(obj["metadata"]["resourceVersion"]), *group_resource, obj)

    def append(self, _record: Record) -> None:
        """Write nothing."""

    def compact(self, _revision: int, _records: Iterable[Record]) -> None:
        """Write nothing."""


class RestorableStore(Store):
    """A Store whose observers, and the subscribers from no version on, outlive a restore; watches end with it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seen_by: list[Observer] = []
        self._followers: list[tuple[Resource, str | None, Query, Listener]] = []
        self._watches: dict[object, Callable[[], None]] = {}

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call the observer with every change from now on, also after a restore."""
        self._seen_by.append(observer)
        end = super().observe(observer)

        def stop() -> None:
            self._seen_by.remove(observer)
            end()

        return stop

    def subscribe(
        self, res: Resource, namespace: str | None, query: Query, listener: Listener, *, since: str | None
    ) -> Callable[[], None]:
        """Call the listener with every change after a revision; None: from now on, also after a restore."""
        if since is None:
            self._followers.append((res, namespace, query, listener))
        return super().subscribe(res, namespace, query, listener, since=since)

    def ends(self, watch: Callable[[], None]) -> Callable[[], None]:
        """Call `watch` when a restore ends it; returns what forgets it."""
        token = object()
        self._watches[token] = watch
        return lambda: cast("None", self._watches.pop(token, None))

    def back_up(self) -> Backup:
        """Return a copy of everything; objects are never changed in place."""
        objects = {(group_resource, key): obj for group_resource, key, obj in self.each()}
        return Backup(self.revision, objects)

    def restore(self, backup: Backup) -> list[Change]:
        """Return to a backup; returns what each object that differs was and is, none of which is observed as a write."""
        before = self.back_up().objects
        journal = cast("Journal", _Journal(backup))
        self._storage = VersionedStorage(self._before_commit, journal)
        for observer in self._seen_by:
            super().observe(observer)
        for res, namespace, query, listener in self._followers:
            super().subscribe(res, namespace, query, listener, since=None)
        watches, self._watches = self._watches, {}
        for end in watches.values():
            end()
        return [
            Change(backup.revision, where[0], where[1], before.get(where), backup.objects.get(where))
            for where in sorted({*before, *backup.objects})
            if before.get(where) != backup.objects.get(where)
        ]


class RestorableCluster(StoreCluster):
    """A client whose watches end when the store is restored."""

    def __init__(self, store: RestorableStore) -> None:
        super().__init__(store)
        self._restorable = store

    def _subscribe(
        self, kind: api.Kind[T], version: str, queue: "asyncio.Queue[api.Change[T] | None]"
    ) -> Callable[[], None]:
        end = super()._subscribe(kind, version, queue)
        forget = self._restorable.ends(lambda: queue.put_nowait(None))

        def both() -> None:
            forget()
            end()

        return both
