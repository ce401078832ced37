"""Garbage collection: what is owned goes when its owner is gone, goes before it, or is set free, as the deletion asked for.

An owner is known by its uid: an object of the same name that was made later owns nothing of its namesake's. Everything is
read from the store at the moment of acting; the graph only says where to look.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from localkube.apiserver.deletion import FOREGROUND, ORPHAN
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Propagation
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.watch_cache import Change, GroupResource, Key
from localkube.controllers.workqueue import Work, attempt

Node = tuple[GroupResource, Key]
State = Literal["solid", "waiting", "absent"]
_OPTIONS = Options(manager="garbage-collector")


@dataclass(frozen=True, slots=True)
class _Owners:
    """References of one object, by the state of what they name."""

    solid: tuple[Object, ...]
    waiting: tuple[Object, ...]  # being deleted in the foreground, and waiting for this one
    absent: tuple[Object, ...]


class Garbage:
    """Follows all objects; a step looks at those that may have to go, or whose dependents may."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._work: Work[Node] = Work()
        self._dependents: dict[str, dict[Node, None]] = {}  # uid of an owner -> what names it, in order
        for place, key, obj in store.each():
            self._follow((place, key), None, obj)
        self._stop = store.observe(self._take)

    def close(self) -> None:
        """Follow no longer."""
        self._stop()

    def step(self) -> bool:
        """Delete, set free and let go whatever is due; returns whether there was anything to look at."""
        return self._work.drain(self._look_at)

    def _look_at(self, node: Node) -> None:
        res = self._store.resource(node[0])
        live = self._store.find(res, *node[1]) if res is not None else None
        if res is not None and live is not None:
            self._look(res, live)

    def _take(self, change: Change) -> None:
        self._follow((change.group_resource, change.key), change.old, change.new)

    def _follow(self, node: Node, old: Object | None, new: Object | None) -> None:
        before, after = _owner_uids(old), _owner_uids(new)
        same_one = old is not None and new is not None and _uid(old) == _uid(new)
        if before != after or not same_one:
            self._relink(node, before, after)
        if new is None or (old is not None and not same_one):
            self._bring_up_family(old)
        if new is not None and (after != before or "deletionTimestamp" in new["metadata"]):
            self._work.add(node)
            for dependent in self._dependents.get(_uid(new), ()):
                self._work.add(dependent)

    def _relink(self, node: Node, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        for uid in before:
            known = self._dependents.get(uid, {})
            known.pop(node, None)
            if not known:
                self._dependents.pop(uid, None)
        for uid in after:
            self._dependents.setdefault(uid, {})[node] = None

    def _bring_up_family(self, gone: Object | None) -> None:
        """Have a look at those that an object leaves behind, and at those that waited for it."""
        if gone is None:
            return
        for dependent in self._dependents.get(_uid(gone), ()):
            self._work.add(dependent)
        namespace = gone["metadata"].get("namespace")
        for reference in gone["metadata"].get("ownerReferences") or ():
            owner = self._resource_of(reference)
            if owner is not None:
                where = namespace or "" if owner.namespaced else ""
                self._work.add(((owner.group, owner.plural), (where, reference["name"])))

    def _look(self, res: Resource, live: Object) -> None:
        meta = live["metadata"]
        if "deletionTimestamp" in meta:
            finalizers = meta.get("finalizers") or []
            if ORPHAN in finalizers:
                self._set_free(res, live)
            elif FOREGROUND in finalizers:
                self._empty(res, live)
            return
        references = meta.get("ownerReferences")
        if references:
            self._judge(res, live)

    def _judge(self, res: Resource, live: Object) -> None:
        """Delete a dependent whose owners are all gone or waiting for it; drop references to those that are gone."""
        owners = self._owners(live)
        if owners.solid:
            lost = [reference["uid"] for reference in (*owners.absent, *owners.waiting)]
            if lost:
                self._drop_owners(res, live, lost)
            return
        if owners.waiting and self._dependents.get(_uid(live)):
            self._delete(res, live, "Foreground")
        elif owners.waiting or owners.absent:
            self._delete(res, live, _chosen(live))

    def _owners(self, live: Object) -> _Owners:
        namespace = live["metadata"].get("namespace")
        sorted_by: dict[State, list[Object]] = {"solid": [], "waiting": [], "absent": []}
        for reference in live["metadata"].get("ownerReferences") or ():
            sorted_by[self._state(namespace, reference)].append(reference)
        return _Owners(tuple(sorted_by["solid"]), tuple(sorted_by["waiting"]), tuple(sorted_by["absent"]))

    def _state(self, namespace: str | None, reference: Object) -> State:
        """Say whether an owner is there. One of a kind that is not offered counts as there: nothing is known of it."""
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

    def _set_free(self, res: Resource, owner: Object) -> None:
        """Take the owner out of its dependents' references, then let it go."""
        for dependent_res, dependent in self._dependents_of(owner):
            self._drop_owners(dependent_res, dependent, [_uid(owner)])
        self._drop_finalizer(res, owner, ORPHAN)

    def _empty(self, res: Resource, owner: Object) -> None:
        """Have dependents deleted; the owner goes when none is left that blocks it."""
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
                self._work.add(((dependent_res.group, dependent_res.plural), key))
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
        attempt(lambda: self._store.delete(res, meta.get("namespace"), meta["name"], options))

    def _drop_owners(self, res: Resource, live: Object, uids: list[str]) -> None:
        left = [each for each in live["metadata"]["ownerReferences"] if each["uid"] not in uids]
        self._change(res, live, {"ownerReferences": left or None})

    def _drop_finalizer(self, res: Resource, live: Object, finalizer: str) -> None:
        left = [each for each in live["metadata"]["finalizers"] if each != finalizer]
        self._change(res, live, {"finalizers": left or None})

    def _change(self, res: Resource, live: Object, fields: Object) -> None:
        meta = live["metadata"]
        body = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], **fields}}
        patch = Patch("merge", body)
        attempt(lambda: self._store.patch(res, meta.get("namespace"), meta["name"], patch, _OPTIONS))

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


def _chosen(live: Object) -> Propagation:
    finalizers = live["metadata"].get("finalizers") or ()
    if ORPHAN in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers else "Background"
