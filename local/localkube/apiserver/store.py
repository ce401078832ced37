"""The store: the operations of the API on all resources.

Like apiserver/pkg/registry/generic/registry/store.go. It is synchronous, and its clock, uids and journal are passed
in, so that simulations can use it too. What a write makes of an object is computed by `write_pipeline` and
`deletion`; objects, revisions and subscribers are kept by `versioned_storage`. There is no authorization.
"""

import builtins
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from localkube.apiserver import deletion, namespace_lifecycle
from localkube.apiserver.conversion import convert, convert_event
from localkube.apiserver.crd_handler import CrdHandler
from localkube.apiserver.errors import already_exists, conflict, not_found
from localkube.apiserver.journal import Journal
from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.pagination import Page, continue_token
from localkube.apiserver.registry import Registry
from localkube.apiserver.requests import (
    DeleteOptions,
    Listing,
    Options,
    Patch,
    Query,
    WatchEvent,
    WriteResult,
)
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.selectors import Predicate, predicate
from localkube.apiserver.versioned_storage import Observer, Table, VersionedStorage
from localkube.apiserver.watch_cache import Change, GroupResource, Key, parse_revision, watch_event
from localkube.apiserver.write_pipeline import Draft, WritePipeline, WriteRequest, check_config

Listener = Callable[[WatchEvent], None]

DEFINITIONS: Final[GroupResource] = ("apiextensions.k8s.io", "customresourcedefinitions")
NAMESPACES: Final[GroupResource] = ("", "namespaces")
_NAME_TRIES: Final = 8
_ALL: Final = Query()
_DEFAULT_OPTIONS: Final = Options()
_DEFAULT_DELETE: Final = DeleteOptions()


class Store:
    """All objects. Objects passed in and returned are shared with the store: callers must not modify them."""

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
        self._pipeline = WritePipeline(registry)
        self._crds = CrdHandler(registry)
        self._storage = VersionedStorage(self._before_commit, journal)
        self._crds.restored = True

    @property
    def revision(self) -> int:
        """Return the latest revision: the resourceVersion of the last write to any resource."""
        return self._storage.revision

    # -- reading

    def get(self, res: Resource, namespace: str | None, name: str) -> Object:
        """Return an object; raises ApiError 404 if it does not exist."""
        obj = self._table(res).objects.get(_key(res, namespace, name))
        if obj is None:
            raise not_found(res, name)
        return convert(res, obj)

    def find(self, res: Resource, namespace: str | None, name: str) -> Object | None:
        """Return an object, None if it does not exist."""
        return self._table(res).objects.get(_key(res, namespace, name))

    def list(self, res: Resource, namespace: str | None, query: Query = _ALL) -> Listing:
        """Return the objects that match a query, by namespace and name.

        All chunks of a list are of one revision. Raises ApiError 400 for an invalid selector or continue
        token, 410 when the revision is no longer kept.
        """
        selects = self._predicate(res, query)
        page = Page.of(query, self.revision)
        table = self._storage.at((res.group, res.plural), page.revision)
        objects, keys = table.objects, table.keys_in(namespace if res.namespaced else None)
        items: builtins.list[Object] = []
        for index in range(page.start_in(keys), len(keys)):
            obj = objects[keys[index]]
            if not selects(obj):
                continue
            if query.limit and len(items) == query.limit:
                plain = not query.label_selector and not query.field_selector
                token = continue_token(page.revision, keys[index])
                return Listing(tuple(items), str(page.revision), token, len(keys) - index if plain else None)
            items.append(convert(res, obj))
        return Listing(tuple(items), str(page.revision))

    def each(self) -> Iterator[tuple[GroupResource, Key, Object]]:
        """Yield every object, with its resource and its namespace and name."""
        return self._storage.each()

    def resource(self, group_resource: GroupResource) -> Resource | None:
        """Return the resource, in any served version, of a group and plural name.

        None if it is not served.
        """
        return next(
            (res for res in self.registry.resources() if (res.group, res.plural) == group_resource), None
        )

    # -- writing

    def create(
        self, res: Resource, namespace: str | None, obj: Object, options: Options = _DEFAULT_OPTIONS
    ) -> WriteResult:
        """Create an object.

        Raises ApiError 409 if it already_exists, 404 or 403 by the state of its namespace, 422 if it is invalid.
        """
        request = self._request(res, options)
        for _ in range(_NAME_TRIES):
            draft = self._pipeline.created(request, namespace, obj, self._new_uid())
            name = draft.obj["metadata"]["name"]
            if self.find(res, namespace, name) is None:
                break
            if (obj.get("metadata") or {}).get("name"):
                self._check_namespace(res, namespace, name)
                raise already_exists(res, name)
        else:
            raise already_exists(res, name)
        return self._commit_create(request, namespace, draft)

    def update(
        self,
        res: Resource,
        namespace: str | None,
        name: str,
        obj: Object,
        options: Options = _DEFAULT_OPTIONS,
        subresource: str = "",
    ) -> WriteResult:
        """Replace an object or a subresource; `binding` assigns a Pod, `finalize` sets spec.finalizers.

        Raises ApiError 404, 409 for a stale resourceVersion, 422 if the result is invalid.
        """
        request = self._request(res, options, subresource)
        live = self.get(res, namespace, name)
        return self._commit_update(request, live, self._pipeline.replaced(request, live, obj))

    def patch(
        self,
        res: Resource,
        namespace: str | None,
        name: str,
        patch: Patch,
        options: Options = _DEFAULT_OPTIONS,
        subresource: str = "",
    ) -> WriteResult:
        """Patch an object; an apply creates it if it does not exist.

        Raises ApiError 404, 409 for a conflict of versions or field managers, 422 if the result is invalid.
        """
        request = self._request(res, options, subresource)
        if patch.kind != "apply":
            live = self.get(res, namespace, name)
            return self._commit_update(request, live, self._pipeline.patched(request, live, patch))
        config = check_config(request, name, patch.body)
        existing = self.find(res, namespace, name)
        if existing is None:
            return self._create_by_apply(request, namespace, config)
        live = convert(res, existing)
        return self._commit_update(request, live, self._pipeline.applied(request, live, config))

    def delete(
        self,
        res: Resource,
        namespace: str | None,
        name: str,
        options: DeleteOptions = _DEFAULT_DELETE,
    ) -> Object:
        """Delete an object, or set its deletionTimestamp; return its new or its last state.

        Raises ApiError 404, 409 when a precondition does not hold, 403 for a protected namespace.
        """
        live = self.get(res, namespace, name)
        outcome = deletion.before_delete(res, live, options, self._now())
        if options.dry_run or (not outcome.immediate and outcome.obj is live):
            return outcome.obj
        if outcome.immediate:
            self._storage.commit((res.group, res.plural), _key(res, namespace, name), None)
            return outcome.obj
        return self._storage.commit((res.group, res.plural), _key(res, namespace, name), outcome.obj)

    def delete_collection(
        self,
        res: Resource,
        namespace: str | None,
        query: Query = _ALL,
        options: DeleteOptions = _DEFAULT_DELETE,
    ) -> Listing:
        """Delete all objects that match a query; return what `delete` returns for each."""
        listing = self.list(res, namespace, query)
        results = [
            self.delete(res, obj["metadata"].get("namespace"), obj["metadata"]["name"], options)
            for obj in listing.items
        ]
        return Listing(tuple(results), str(self.revision), listing.continue_token, listing.remaining)

    # -- watching

    def subscribe(
        self, res: Resource, namespace: str | None, query: Query, listener: Listener, *, since: str | None
    ) -> Callable[[], None]:
        """Call the listener with every change after a revision (None: from now on); return what unsubscribes.

        Changes are delivered in order, past ones before this returns. Raises ApiError 410 when the revision
        is older than the history, 504 when it is in the future.
        """
        selects = self._predicate(res, query)
        scope = namespace if res.namespaced else None
        after = None if since is None else parse_revision(since)

        def deliver(change: Change) -> None:
            if scope is None or change.key[0] == scope:
                event = watch_event(change, selects)
                if event is not None:
                    listener(convert_event(res, event))

        return self._storage.listen((res.group, res.plural), deliver, after)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call the observer with every change from now on; return what unsubscribes."""
        return self._storage.observe(observer)

    # -- internal

    def _request(self, res: Resource, options: Options, subresource: str = "") -> WriteRequest:
        return WriteRequest(res, subresource, options, rfc3339(self._now()))

    def _predicate(self, res: Resource, query: Query) -> Predicate:
        selectable = self.registry.selectable_fields(res) if query.field_selector else ()
        return predicate(res, query, selectable)

    def _table(self, res: Resource) -> Table:
        return self._storage.table((res.group, res.plural))

    def _commit_create(self, request: WriteRequest, namespace: str | None, draft: Draft) -> WriteResult:
        name = draft.obj["metadata"]["name"]
        self._check_namespace(request.res, namespace, name)
        if request.options.dry_run:
            return WriteResult(draft.obj, draft.warnings, created=True)
        obj = self._storage.commit(
            (request.res.group, request.res.plural), _key(request.res, namespace, name), draft.obj
        )
        return WriteResult(obj, draft.warnings, created=True)

    def _create_by_apply(self, request: WriteRequest, namespace: str | None, config: Object) -> WriteResult:
        name, meta = config["metadata"]["name"], config["metadata"]
        if request.subresource:
            raise not_found(request.res, name)
        if meta.get("uid"):
            message = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise conflict(request.res, name, message)
        return self._commit_create(
            request, namespace, self._pipeline.created_by_apply(request, namespace, config, self._new_uid())
        )

    def _commit_update(self, request: WriteRequest, live: Object, draft: Draft) -> WriteResult:
        meta = live["metadata"]
        if draft.obj is live or request.options.dry_run:
            return WriteResult(draft.obj, draft.warnings)
        group_resource: GroupResource = (request.res.group, request.res.plural)
        key = (meta.get("namespace", ""), meta["name"])
        if deletion.should_delete_during_update(draft.obj, live):
            self._storage.commit(group_resource, key, None)
            return WriteResult(draft.obj, draft.warnings)
        return WriteResult(self._storage.commit(group_resource, key, draft.obj), draft.warnings)

    def _check_namespace(self, res: Resource, namespace: str | None, name: str) -> None:
        if res.namespaced:
            existing = self._storage.table(NAMESPACES).objects.get(("", namespace or ""))
            namespace_lifecycle.check_create(res, name, namespace, existing)

    def _before_commit(self, change: Change) -> None:
        if change.group_resource == DEFINITIONS:
            self._crds.handle(change.old, change.new)


def _key(res: Resource, namespace: str | None, name: str) -> Key:
    return (namespace or "" if res.namespaced else "", name)
