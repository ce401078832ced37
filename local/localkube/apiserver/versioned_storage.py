"""The ledger: what is true now, how it came about, and who is told; one counter of revisions over everything.

A change becomes true in this order: the journal, memory, listeners; and it is told to all of them in the order of revisions,
also when a listener writes. It knows no rules of resources: the store says what is to become true.
"""

import bisect
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from localkube.apiserver.journal import Journal, Record
from localkube.apiserver.resources import Object
from localkube.apiserver.watch_cache import Change, History, Key, Place

Observer = Callable[[Change], None]


@dataclass(slots=True)
class Table:
    """The objects of one resource, and their keys in the order of listings."""

    objects: dict[Key, Object] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)

    def put(self, key: Key, obj: Object) -> None:
        """Hold an object, in place of the one of that key."""
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.objects[key] = obj

    def drop(self, key: Key) -> None:
        """Hold it no longer."""
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]


class Ledger:
    """All objects, the last changes and the listeners. `before` is asked, and may refuse, before a change is written down."""

    def __init__(self, before: Callable[[Change], None], journal: Journal | None = None) -> None:
        self.revision = 0
        self._before = before
        self._journal = journal
        self._tables: dict[Place, Table] = {}
        self._history = History()
        self._listeners: dict[Place, dict[object, Observer]] = {}
        self._observers: dict[object, Observer] = {}
        self._untold: deque[Change] = deque()
        self._telling = False
        if journal is not None:
            self._restore(journal)

    def table(self, place: Place) -> Table:
        """Return the objects of a resource as they are."""
        found = self._tables.get(place)
        if found is None:
            found = self._tables[place] = Table()
        return found

    def at(self, place: Place, revision: int) -> Table:
        """Return the objects of a resource as they were; ApiError 410 when that is forgotten."""
        table = self.table(place)
        if revision == self.revision:
            return table
        past = self._history.rewound(place, table.objects, revision, self.revision)
        return Table(past, sorted(past))

    def each(self) -> Iterator[tuple[Place, Key, Object]]:
        """Yield every object there is."""
        for place, table in list(self._tables.items()):
            for key in list(table.keys):
                yield place, key, table.objects[key]

    def commit(self, place: Place, key: Key, new: Object | None) -> Object:
        """Make an object true as it is (None: make it gone), and tell; returns it with its version, or as it was last."""
        table = self.table(place)
        old = table.objects.get(key)
        revision = self.revision + 1
        if new is not None:
            new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(revision)}}
        change = Change(revision, place, key, old, new)
        self._before(change)
        if self._journal is not None:
            self._journal.append(_record(change))
        self._keep(change)
        if self._journal is not None and self._journal.needs_compaction:
            self._journal.compact(self.revision, self._records())
        self._tell(change)
        return new or old or {}

    def listen(self, place: Place, observer: Observer, since: int | None) -> Callable[[], None]:
        """Tell of a resource's changes after a revision (None: from now on), the known ones at once; returns how to stop."""
        if since is not None:
            for change in self._history.since(since, self.revision):
                if change.place == place:
                    observer(change)
        return _added(self._listeners.setdefault(place, {}), observer)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell of every change from now on; returns how to stop."""
        return _added(self._observers, observer)

    def _keep(self, change: Change) -> None:
        self.revision = change.revision
        table = self.table(change.place)
        if change.new is not None:
            table.put(change.key, change.new)
        else:
            table.drop(change.key)
        self._history.add(change)

    def _tell(self, change: Change) -> None:
        """Tell everybody; a change made by a listener is told after this one."""
        self._untold.append(change)
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                change = self._untold.popleft()
                for tell in (*self._listeners.get(change.place, {}).values(), *self._observers.values()):
                    tell(change)
        finally:
            self._telling = False

    def _restore(self, journal: Journal) -> None:
        """Bring back what the journal holds; what it holds as changes can be watched again."""
        for record in journal.replay():
            place = (record.group, record.plural)
            key = _key_of(record)
            change = Change(record.revision, place, key, self.table(place).objects.get(key), record.obj)
            self._before(change)
            if record.revision > journal.base_revision:
                self._history.begin_at(journal.base_revision)
                self._keep(change)
            elif record.obj is not None:
                self.table(place).put(key, record.obj)
        self.revision = max(self.revision, journal.base_revision)
        self._history.begin_at(journal.base_revision)
        journal.compact(self.revision, self._records())

    def _records(self) -> Iterator[Record]:
        for place, _, obj in self.each():
            yield Record(int(obj["metadata"]["resourceVersion"]), *place, obj)


def _record(change: Change) -> Record:
    if change.new is not None:
        return Record(change.revision, *change.place, change.new)
    return Record(change.revision, *change.place, None, *change.key)


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
