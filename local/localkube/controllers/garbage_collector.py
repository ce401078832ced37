"""Garbage collector: deletes objects whose owners are deleted, in the background, in the foreground or not at all (orphan).

The garbage collector of kube-controller-manager. An owner is identified by its uid: a later object of the same name does not own the
dependents of its predecessor. The graph only says which objects to examine; every decision reads the current objects from the store.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from localkube.apiserver.deletion import FOREGROUND, ORPHAN
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Propagation
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.watch_cache import Change, GroupResource, Key
from localkube.controllers.workqueue import WorkQueue, try_write

Node = tuple[GroupResource, Key]
State = Literal["solid", "waiting", "absent"]
_OPTIONS = Options(manager="garbage-collector")


@dataclass(frozen=True, slots=True)
class _Owners:
    """The owner references of one object, by the state of the owner."""

    solid: tuple[Object, ...]
    waiting: tuple[Object, ...]  # being deleted in the foreground, and waiting for this one
    absent: tuple[Object, ...]


class GarbageCollector:
    """The dependency graph of all objects, and the objects that have to be examined."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: WorkQueue[Node] = WorkQueue()
        self._dependents: dict[
            str, dict[Node, None]
        ] = {}  # uid of an owner -> the objects that reference it, in order
        for place, key, obj in store.each():
            self._index((place, key), None, obj)
        self._stop = store.observe(self._on_change)

    def close(self) -> None:
        """Unsubscribe from the store."""
        self._stop()

    def step(self) -> bool:
        """Examine every queued object; returns whether there were any."""
        return self._queue.drain(self._sync)

    def _sync(self, node: Node) -> None:
        res = self._store.resource(node[0])
        live = self._store.find(res, *node[1]) if res is not None else None
        if res is not None and live is not None:
            self._process(res, live)

    def _on_change(self, change: Change) -> None:
        self._index((change.group_resource, change.key), change.old, change.new)

    def _index(self, node: Node, old: Object | None, new: Object | None) -> None:
        before, after = _owner_uids(old), _owner_uids(new)
        same_one = old is not None and new is not None and _uid(old) == _uid(new)
        if before != after or not same_one:
            self._update_edges(node, before, after)
        if new is None or (old is not None and not same_one):
            self._enqueue_relatives(old)
        if new is not None and (after != before or "deletionTimestamp" in new["metadata"]):
            self._queue.add(node)
            for dependent in self._dependents.get(_uid(new), ()):
                self._queue.add(dependent)

    def _update_edges(self, node: Node, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        for uid in before:
            dependents = self._dependents.get(uid, {})
            dependents.pop(node, None)
            if not dependents:
                self._dependents.pop(uid, None)
        for uid in after:
            self._dependents.setdefault(uid, {})[node] = None

    def _enqueue_relatives(self, deleted_object: Object | None) -> None:
        """Queue the dependents of a deleted object, and the owners that may have waited for it."""
        if deleted_object is None:
            return
        for dependent in self._dependents.get(_uid(deleted_object), ()):
            self._queue.add(dependent)
        namespace = deleted_object["metadata"].get("namespace")
        for reference in deleted_object["metadata"].get("ownerReferences") or ():
            owner = self._resource_of(reference)
            if owner is not None:
                where = namespace or "" if owner.namespaced else ""
                self._queue.add(((owner.group, owner.plural), (where, reference["name"])))

    def _process(self, res: Resource, live: Object) -> None:
        meta = live["metadata"]
        if "deletionTimestamp" in meta:
            finalizers = meta.get("finalizers") or []
            if ORPHAN in finalizers:
                self._orphan_dependents(res, live)
            elif FOREGROUND in finalizers:
                self._delete_dependents(res, live)
            return
        references = meta.get("ownerReferences")
        if references:
            self._attempt_to_delete(res, live)

    def _attempt_to_delete(self, res: Resource, live: Object) -> None:
        """Delete a dependent whose owners are all absent or waiting for it; else drop its references to those."""
        owners = self._owners(live)
        if owners.solid:
            stale = [reference["uid"] for reference in (*owners.absent, *owners.waiting)]
            if stale:
                self._drop_owners(res, live, stale)
            return
        if owners.waiting and self._dependents.get(_uid(live)):
            self._delete(res, live, "Foreground")
        elif owners.waiting or owners.absent:
            self._delete(res, live, _propagation_of(live))

    def _owners(self, live: Object) -> _Owners:
        namespace = live["metadata"].get("namespace")
        by_state: dict[State, list[Object]] = {"solid": [], "waiting": [], "absent": []}
        for reference in live["metadata"].get("ownerReferences") or ():
            by_state[self._state(namespace, reference)].append(reference)
        return _Owners(tuple(by_state["solid"]), tuple(by_state["waiting"]), tuple(by_state["absent"]))

    def _state(self, namespace: str | None, reference: Object) -> State:
        """Return the state of an owner. One of a kind that is not served counts as solid: its existence is unknown."""
        res = self._resource_of(reference)
        if res is None:
            return "solid"
        owner = self._store.find(res, namespace, reference["name"])
        if owner is None or _uid(owner) != reference["uid"]:
            return "absent"
        meta = owner["metadata"]
        if "deletionTimestamp" in meta and FOREGROUND in (meta.get("finalizers") or ()):
            return "waiting"
        return "solid"

    def _orphan_dependents(self, res: Resource, owner: Object) -> None:
        """Remove the owner from its dependents' references, then its orphan finalizer."""
        for dependent_res, dependent in self._dependents_of(owner):
            self._drop_owners(dependent_res, dependent, [_uid(owner)])
        self._drop_finalizer(res, owner, ORPHAN)

    def _delete_dependents(self, res: Resource, owner: Object) -> None:
        """Queue the dependents for deletion; remove the foreground finalizer once none of them blocks the owner."""
        uid = _uid(owner)
        blocked = False
        for dependent_res, dependent in self._dependents_of(owner):
            blocks = any(
                reference["uid"] == uid and reference.get("blockOwnerDeletion")
                for reference in dependent["metadata"]["ownerReferences"]
            )
            blocked = blocked or blocks
            if "deletionTimestamp" not in dependent["metadata"]:
                key = (dependent["metadata"].get("namespace", ""), dependent["metadata"]["name"])
                self._queue.add(((dependent_res.group, dependent_res.plural), key))
        if not blocked:
            self._drop_finalizer(res, owner, FOREGROUND)

    def _dependents_of(self, owner: Object) -> Iterator[tuple[Resource, Object]]:
        for place, key in list(self._dependents.get(_uid(owner), ())):
            res = self._store.resource(place)
            dependent = self._store.find(res, *key) if res is not None else None
            if res is not None and dependent is not None:
                yield res, dependent

    def _delete(self, res: Resource, live: Object, propagation: Propagation) -> None:
        meta = live["metadata"]
        options = DeleteOptions(
            uid=meta["uid"], resource_version=meta["resourceVersion"], propagation=propagation
        )
        try_write(lambda: self._store.delete(res, meta.get("namespace"), meta["name"], options))

    def _drop_owners(self, res: Resource, live: Object, uids: list[str]) -> None:
        remaining = [each for each in live["metadata"]["ownerReferences"] if each["uid"] not in uids]
        self._patch_metadata(res, live, {"ownerReferences": remaining or None})

    def _drop_finalizer(self, res: Resource, live: Object, finalizer: str) -> None:
        remaining = [each for each in live["metadata"]["finalizers"] if each != finalizer]
        self._patch_metadata(res, live, {"finalizers": remaining or None})

    def _patch_metadata(self, res: Resource, live: Object, fields: Object) -> None:
        meta = live["metadata"]
        body = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], **fields}}
        patch = Patch("merge", body)
        try_write(lambda: self._store.patch(res, meta.get("namespace"), meta["name"], patch, _OPTIONS))

    def _resource_of(self, reference: Object) -> Resource | None:
        group, _, version = reference["apiVersion"].rpartition("/")
        return next(
            (
                res
                for res in self._store.registry.resources()
                if res.kind == reference["kind"] and res.group == group and res.version == version
            ),
            None,
        )


def _uid(obj: Object) -> str:
    uid: str = obj["metadata"]["uid"]
    return uid


def _owner_uids(obj: Object | None) -> tuple[str, ...]:
    if obj is None:
        return ()
    return tuple(reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ())


def _propagation_of(live: Object) -> Propagation:
    finalizers = live["metadata"].get("finalizers") or ()
    if ORPHAN in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers else "Background"
