"""The store: every object of the local API, its versions and its watchers, as a real API server would keep them.

It is synchronous and has no clock, no network and no file but its journal, so the same store is the world of a simulation. What
a write makes of an object is worked out in `writing` and `deletion`, what is true is kept in the `ledger`; here requests are
answered.
"""

import bisect
import builtins
import logging
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from localkube.apiserver import deletion
from localkube.apiserver.errors import (
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    not_found,
)
from localkube.apiserver.journal import Journal
from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.pagination import Page, token_of
from localkube.apiserver.registry import Registry
from localkube.apiserver.requests import DeleteOptions, Listing, Options, Patch, Query, WatchEvent, Written
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.selectors import Predicate, predicate
from localkube.apiserver.structured_merge import same
from localkube.apiserver.versioned_storage import Ledger, Observer, Table
from localkube.apiserver.watch_cache import Change, Key, Place, seen
from localkube.apiserver.write_pipeline import Composer, Draft, Request, check_config

log = logging.getLogger(__name__)

Listener = Callable[[WatchEvent], None]

DEFINITIONS: Final[Place] = ("apiextensions.k8s.io", "customresourcedefinitions")
NAMESPACES: Final[Place] = ("", "namespaces")
_NAME_TRIES: Final = 8
_EVERYTHING: Final = Query()
_PLAINLY: Final = Options()
_PLAIN_DELETE: Final = DeleteOptions()


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
        self._now = now
        self._new_uid = new_uid
        self._composer = Composer(registry)
        self._restored = False
        self._ledger = Ledger(self._redefine, journal)
        self._restored = True

    @property
    def revision(self) -> int:
        """Return the latest version of all."""
        return self._ledger.revision

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
        table = self._ledger.at((res.group, res.plural), page.revision)
        objects, keys = table.objects, _of_namespace(table.keys, namespace if res.namespaced else None)
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
        return self._ledger.each()

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
                raise already_exists(res, name)
        else:
            raise already_exists(res, name)
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
        result = deletion.before_delete(res, live, options, self._now())
        if options.dry_run or (not result.immediate and result.obj is live):
            return result.obj
        if result.immediate:
            self._ledger.commit((res.group, res.plural), _key(res, namespace, name), None)
            return result.obj
        return self._ledger.commit((res.group, res.plural), _key(res, namespace, name), result.obj)

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

        return self._ledger.listen((res.group, res.plural), tell, _revision(since))

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell of every change of every resource from now on; returns how to stop it."""
        return self._ledger.observe(observer)

    # -- within

    def _request(self, res: Resource, options: Options, subresource: str = "") -> Request:
        return Request(res, subresource, options, rfc3339(self._now()))

    def _predicate(self, res: Resource, query: Query) -> Predicate:
        selectable = self.registry.selectable_fields(res) if query.field_selector else ()
        return predicate(res, query, selectable)

    def _table(self, res: Resource) -> Table:
        return self._ledger.table((res.group, res.plural))

    def _insert(self, on: Request, namespace: str | None, draft: Draft) -> Written:
        name = draft.obj["metadata"]["name"]
        self._check_namespace(on.res, namespace, name)
        if on.options.dry_run:
            return Written(draft.obj, draft.warnings, created=True)
        obj = self._ledger.commit((on.res.group, on.res.plural), _key(on.res, namespace, name), draft.obj)
        return Written(obj, draft.warnings, created=True)

    def _apply_anew(self, on: Request, namespace: str | None, config: Object) -> Written:
        name, meta = config["metadata"]["name"], config["metadata"]
        if on.subresource:
            raise not_found(on.res, name)
        if meta.get("uid"):
            why = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise conflict(on.res, name, why)
        return self._insert(
            on, namespace, self._composer.created_by_apply(on, namespace, config, self._new_uid())
        )

    def _settle(self, on: Request, live: Object, draft: Draft) -> Written:
        meta = live["metadata"]
        if draft.obj is live or on.options.dry_run:
            return Written(draft.obj, draft.warnings)
        place: Place = (on.res.group, on.res.plural)
        key = (meta.get("namespace", ""), meta["name"])
        if deletion.should_delete_during_update(draft.obj, live):
            self._ledger.commit(place, key, None)
            return Written(draft.obj, draft.warnings)
        return Written(self._ledger.commit(place, key, draft.obj), draft.warnings)

    def _check_namespace(self, res: Resource, namespace: str | None, name: str) -> None:
        """Refuse what is created in a namespace that is not there, or is going."""
        if not res.namespaced:
            return
        found = self._ledger.table(NAMESPACES).objects.get(("", namespace or ""))
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

    def _redefine(self, change: Change) -> None:
        """Offer what a definition defines, from the moment it is there until it is gone; ApiError when it is wrong."""
        if change.place != DEFINITIONS:
            return
        old, new = change.old, change.new
        if new is not None and (old is None or not same(old.get("spec"), new.get("spec"))):
            self._install(new)
        elif new is None and old is not None:
            self.registry.remove(old)

    def _install(self, crd: Object) -> None:
        try:
            self.registry.install(crd)
        except ApiError as error:
            if self._restored:
                raise
            # written under other rules; whoever set it up writes it anew, and its objects wait for that
            log.warning("%s is not offered: %s", crd["metadata"]["name"], error)


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


def _revision(since: str | None) -> int | None:
    if since is None:
        return None
    if not since.isdigit():
        raise bad_request(f'Invalid value: "{since}": strconv.ParseUint: parsing "{since}": invalid syntax')
    return int(since)


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
