"""The store: every object of the local API, its versions and its watchers, as a real API server would keep them.

It is synchronous and has no clock, no network and no file but its journal, so the same store is the world of a simulation. What
a write makes of an object is worked out in `writing` and `deletion`; here it becomes the truth: one counter of revisions, the
journal first, then memory, then everybody who listens, in the order of revisions.
"""

import bisect
import builtins
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from flexinfer.local.api import deletion
from flexinfer.local.api.definitions import Registry
from flexinfer.local.api.errors import ApiError, Cause, bad_request, conflict, exists, forbidden, not_found
from flexinfer.local.api.history import Change, History, Key, Place, seen
from flexinfer.local.api.identity import rfc3339
from flexinfer.local.api.journal import Journal, Record
from flexinfer.local.api.merging import same
from flexinfer.local.api.paging import Page, token_of
from flexinfer.local.api.requests import DeleteOptions, Listing, Options, Patch, Query, WatchEvent, Written
from flexinfer.local.api.resources import Object, Resource
from flexinfer.local.api.selectors import Predicate, predicate
from flexinfer.local.api.writing import Composer, Draft, Request, check_config

Listener = Callable[[WatchEvent], None]
Observer = Callable[[Change], None]

DEFINITIONS: Final[Place] = ("apiextensions.k8s.io", "customresourcedefinitions")
NAMESPACES: Final[Place] = ("", "namespaces")
_NAME_TRIES: Final = 8
_EVERYTHING: Final = Query()
_PLAINLY: Final = Options()
_PLAIN_DELETE: Final = DeleteOptions()


@dataclass(slots=True)
class _Table:
    """The objects of one resource, and their keys in the order of listings."""

    objects: dict[Key, Object] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)

    def put(self, key: Key, obj: Object) -> None:
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.objects[key] = obj

    def drop(self, key: Key) -> None:
        del self.objects[key]
        del self.keys[bisect.bisect_left(self.keys, key)]


class Store:
    """All objects. Whoever gets one must not change it, and neither what was handed in."""

    def __init__(
        self,
        registry: Registry,
        *,
        now: Callable[[], datetime],
        journal: Journal | None = None,
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.registry = registry
        self.revision = 0
        self._now = now
        self._new_uid = new_uid
        self._journal = journal
        self._composer = Composer(registry)
        self._tables: dict[Place, _Table] = {}
        self._history = History()
        self._listeners: dict[Place, dict[object, Observer]] = {}
        self._observers: dict[object, Observer] = {}
        self._untold: deque[Change] = deque()
        self._telling = False
        if journal is not None:
            self._restore(journal)

    # -- reading

    def get(self, res: Resource, namespace: str | None, name: str) -> Object:
        """Return an object; ApiError 404 when it is not there."""
        obj = self._table(res).objects.get(_key(res, namespace, name))
        if obj is None:
            raise not_found(res, name)
        return _seen_as(res, obj)

    def find(self, res: Resource, namespace: str | None, name: str) -> Object | None:
        """Return an object, None when it is not there."""
        return self._table(res).objects.get(_key(res, namespace, name))

    def list(self, res: Resource, namespace: str | None, query: Query = _EVERYTHING) -> Listing:
        """Return the objects that a query asks for, by name; further pages show the same revision as the first."""
        selects = self._predicate(res, query)
        page = Page.of(query, self.revision)
        objects, keys = self._at(res, page.revision)
        keys = _of_namespace(keys, namespace if res.namespaced else None)
        items: builtins.list[Object] = []
        for place in range(page.start_in(keys), len(keys)):
            obj = objects[keys[place]]
            if not selects(obj):
                continue
            if query.limit and len(items) == query.limit:
                plain = not query.label_selector and not query.field_selector
                token = token_of(page.revision, keys[place])
                return Listing(tuple(items), str(page.revision), token, len(keys) - place if plain else None)
            items.append(_seen_as(res, obj))
        return Listing(tuple(items), str(page.revision))

    def each(self) -> Iterator[tuple[Place, Key, Object]]:
        """Yield every object there is."""
        for place, table in self._tables.items():
            for key in builtins.list(table.keys):
                yield place, key, table.objects[key]

    def resource(self, place: Place) -> Resource | None:
        """Return the resource, in any served version, that is kept in a place."""
        return next((res for res in self.registry.resources() if (res.group, res.plural) == place), None)

    # -- writing

    def create(
        self, res: Resource, namespace: str | None, obj: Object, options: Options = _PLAINLY
    ) -> Written:
        """Add an object; ApiError 409 when its name is taken."""
        on = self._request(res, options)
        for _ in range(_NAME_TRIES):
            draft = self._composer.created(on, namespace, obj, self._new_uid())
            name = draft.obj["metadata"]["name"]
            if self.find(res, namespace, name) is None:
                break
            if (obj.get("metadata") or {}).get("name"):
                self._check_namespace(res, namespace, name)
                raise exists(res, name)
        else:
            raise exists(res, name)
        return self._insert(on, namespace, draft)

    def update(
        self,
        res: Resource,
        namespace: str | None,
        name: str,
        obj: Object,
        options: Options = _PLAINLY,
        subresource: str = "",
    ) -> Written:
        """PUT an object, or a part of it; `binding` gives a Pod to a node, `finalize` lets a namespace go."""
        on = self._request(res, options, subresource)
        live = self.get(res, namespace, name)
        return self._settle(on, live, self._composer.replaced(on, live, obj))

    def patch(
        self,
        res: Resource,
        namespace: str | None,
        name: str,
        patch: Patch,
        options: Options = _PLAINLY,
        subresource: str = "",
    ) -> Written:
        """Change an object by a patch; an apply creates what is not there yet."""
        on = self._request(res, options, subresource)
        if patch.kind != "apply":
            live = self.get(res, namespace, name)
            return self._settle(on, live, self._composer.patched(on, live, patch))
        config = check_config(on, name, patch.body)
        found = self.find(res, namespace, name)
        if found is None:
            return self._apply_anew(on, namespace, config)
        live = _seen_as(res, found)
        return self._settle(on, live, self._composer.applied(on, live, config))

    def delete(
        self,
        res: Resource,
        namespace: str | None,
        name: str,
        options: DeleteOptions = _PLAIN_DELETE,
    ) -> Object:
        """Delete an object, or mark it as being deleted; returns it as it is then, or as it was last."""
        live = self.get(res, namespace, name)
        verdict = deletion.decide(res, live, options, self._now())
        if options.dry_run or (not verdict.gone and verdict.obj is live):
            return verdict.obj
        if verdict.gone:
            self._commit((res.group, res.plural), _key(res, namespace, name), None)
            return verdict.obj
        return self._commit((res.group, res.plural), _key(res, namespace, name), verdict.obj)

    def delete_collection(
        self,
        res: Resource,
        namespace: str | None,
        query: Query = _EVERYTHING,
        options: DeleteOptions = _PLAIN_DELETE,
    ) -> Listing:
        """Delete whatever a query asks for; returns each as `delete` does."""
        found = self.list(res, namespace, query)
        last = [
            self.delete(res, obj["metadata"].get("namespace"), obj["metadata"]["name"], options)
            for obj in found.items
        ]
        return Listing(tuple(last), str(self.revision), found.continue_token, found.remaining)

    # -- listening

    def subscribe(
        self, res: Resource, namespace: str | None, query: Query, listener: Listener, *, since: str | None
    ) -> Callable[[], None]:
        """Tell of every change after a revision (None: from now on), in order; returns how to stop it.

        What is known is told before this returns; ApiError 410 when the revision is older than what is kept.
        """
        selects = self._predicate(res, query)
        wanted = namespace if res.namespaced else None

        def tell(change: Change) -> None:
            if wanted is None or change.key[0] == wanted:
                event = seen(change, selects)
                if event is not None:
                    listener(_event_as(res, event))

        place: Place = (res.group, res.plural)
        if since is not None:
            if not since.isdigit():
                raise bad_request(
                    f'Invalid value: "{since}": strconv.ParseUint: parsing "{since}": invalid syntax'
                )
            for change in self._history.since(int(since), self.revision):
                if change.place == place:
                    tell(change)
        return _added(self._listeners.setdefault(place, {}), tell)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell of every change of every resource from now on; returns how to stop it."""
        return _added(self._observers, observer)

    # -- within

    def _request(self, res: Resource, options: Options, subresource: str = "") -> Request:
        return Request(res, subresource, options, rfc3339(self._now()))

    def _predicate(self, res: Resource, query: Query) -> Predicate:
        selectable = self.registry.selectable_fields(res) if query.field_selector else ()
        return predicate(res, query, selectable)

    def _table(self, res: Resource) -> _Table:
        return self._tables.get((res.group, res.plural)) or self._tables.setdefault(
            (res.group, res.plural), _Table()
        )

    def _at(self, res: Resource, revision: int) -> tuple[dict[Key, Object], builtins.list[Key]]:
        table = self._table(res)
        if revision == self.revision:
            return table.objects, table.keys
        past = self._history.rewound((res.group, res.plural), table.objects, revision, self.revision)
        return past, sorted(past)

    def _insert(self, on: Request, namespace: str | None, draft: Draft) -> Written:
        name = draft.obj["metadata"]["name"]
        self._check_namespace(on.res, namespace, name)
        if on.options.dry_run:
            return Written(draft.obj, draft.warnings, created=True)
        obj = self._commit((on.res.group, on.res.plural), _key(on.res, namespace, name), draft.obj)
        return Written(obj, draft.warnings, created=True)

    def _apply_anew(self, on: Request, namespace: str | None, config: Object) -> Written:
        name, meta = config["metadata"]["name"], config["metadata"]
        if on.subresource:
            raise not_found(on.res, name)
        if meta.get("uid"):
            why = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise conflict(on.res, name, why)
        if meta.get("resourceVersion"):
            raise conflict(on.res, name)
        return self._insert(
            on, namespace, self._composer.created_by_apply(on, namespace, config, self._new_uid())
        )

    def _settle(self, on: Request, live: Object, draft: Draft) -> Written:
        meta = live["metadata"]
        if draft.obj is live or on.options.dry_run:
            return Written(draft.obj, draft.warnings)
        place: Place = (on.res.group, on.res.plural)
        key = (meta.get("namespace", ""), meta["name"])
        if deletion.ended(draft.obj, live):
            self._commit(place, key, None)
            return Written(draft.obj, draft.warnings)
        return Written(self._commit(place, key, draft.obj), draft.warnings)

    def _check_namespace(self, res: Resource, namespace: str | None, name: str) -> None:
        """Refuse what is created in a namespace that is not there, or is going."""
        if not res.namespaced:
            return
        found = self._tables.get(NAMESPACES, _Table()).objects.get(("", namespace or ""))
        if found is None:
            raise ApiError(
                404,
                "NotFound",
                f'namespaces "{namespace}" not found',
                {"name": namespace, "kind": "namespaces"},
            )
        if "deletionTimestamp" in found["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = Cause(
                "NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace"
            )
            raise forbidden(res, name, why, [cause])

    def _commit(self, place: Place, key: Key, new: Object | None) -> Object:
        """Make a change the truth: the definition it may be, the journal, memory, listeners; in this order."""
        table = self._tables.setdefault(place, _Table())
        old = table.objects.get(key)
        revision = self.revision + 1
        if new is not None:
            new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(revision)}}
        self._redefine(place, old, new)
        change = Change(revision, place, key, old, new)
        if self._journal is not None:
            self._journal.append(_record(change))
        self._keep(table, change)
        if self._journal is not None and self._journal.grown:
            self._journal.compact(self.revision, self._records())
        self._tell(change)
        last = new or old
        if last is None:
            raise AssertionError("a change without an object")
        return last

    def _keep(self, table: _Table, change: Change) -> None:
        self.revision = change.revision
        if change.new is not None:
            table.put(change.key, change.new)
        elif change.key in table.objects:
            table.drop(change.key)
        self._history.add(change)

    def _redefine(self, place: Place, old: Object | None, new: Object | None) -> None:
        if place != DEFINITIONS:
            return
        if new is not None and (old is None or not same(old.get("spec"), new.get("spec"))):
            self.registry.install(new)
        elif new is None and old is not None:
            self.registry.remove(old)

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
        for record in journal.replay():
            place = (record.group, record.plural)
            table = self._tables.setdefault(place, _Table())
            if record.obj is not None:
                meta = record.obj["metadata"]
                key = (meta.get("namespace", ""), meta["name"])
            else:
                key = (record.namespace, record.name)
            self._redefine(place, table.objects.get(key), record.obj)
            if self._history.floor < journal.started_at:
                self._history.begin(journal.started_at)
            self._replay(
                table, Change(record.revision, place, key, table.objects.get(key), record.obj), journal
            )
        self.revision = max(self.revision, journal.started_at)
        self._history.floor = max(self._history.floor, journal.started_at)
        journal.compact(self.revision, self._records())

    def _replay(self, table: _Table, change: Change, journal: Journal) -> None:
        if change.revision > journal.started_at:
            self._keep(table, change)
        elif change.new is not None:
            table.put(change.key, change.new)

    def _records(self) -> Iterator[Record]:
        for place, _, obj in self.each():
            yield Record(int(obj["metadata"]["resourceVersion"]), *place, obj)


def _record(change: Change) -> Record:
    if change.new is not None:
        return Record(change.revision, *change.place, change.new)
    return Record(change.revision, *change.place, None, *change.key)


def _key(res: Resource, namespace: str | None, name: str) -> Key:
    return (namespace or "" if res.namespaced else "", name)


def _of_namespace(keys: list[Key], namespace: str | None) -> list[Key]:
    if namespace is None:
        return keys
    return keys[bisect.bisect_left(keys, (namespace, "")) : bisect.bisect_left(keys, (namespace + "\0", ""))]


def _seen_as(res: Resource, obj: Object) -> Object:
    """Return an object in the version that was asked for: all versions of a resource have the same fields."""
    return obj if obj["apiVersion"] == res.api_version else {**obj, "apiVersion": res.api_version}


def _event_as(res: Resource, event: WatchEvent) -> WatchEvent:
    obj = _seen_as(res, event.obj)
    return event if obj is event.obj else WatchEvent(event.type, obj, event.revision)


def _added(listeners: dict[object, Observer], observer: Observer) -> Callable[[], None]:
    token = object()
    listeners[token] = observer

    def stop() -> None:
        listeners.pop(token, None)

    return stop


__all__ = [
    "DeleteOptions",
    "Listing",
    "Options",
    "Patch",
    "Query",
    "Store",
    "WatchEvent",
    "Written",
]
