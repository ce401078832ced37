"""Deletion with contents: a namespace is removed once everything in it is, a CustomResourceDefinition once its objects are.

The namespace controller of kube-controller-manager and the CRD finalizer of apiextensions. Objects with finalizers, and Pods that run
on a node, keep their namespace `Terminating` until their own controllers have finished with them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import ClassVar

from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.requests import DeleteOptions, Options, Patch
from localkube.apiserver.resource_strategy import CLEANUP_FINALIZER
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import DEFINITIONS, NAMESPACES, Store
from localkube.apiserver.watch_cache import Change, GroupResource
from localkube.controllers import namespace_conditions
from localkube.controllers.workqueue import WorkQueue, try_write

_KUBERNETES = "kubernetes"


class _ContentDeletion(ABC):
    """Deletes what belongs to terminating objects of one resource, then removes their finalizer."""

    _owner_resource: ClassVar[GroupResource]

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: WorkQueue[str] = WorkQueue()
        for group_resource, (_, name), obj in store.each():
            if group_resource == self._owner_resource and "deletionTimestamp" in obj["metadata"]:
                self._queue.add(name)
        self._stop = store.observe(self._on_change)

    def close(self) -> None:
        """Unsubscribe from the store."""
        self._stop()

    def step(self) -> bool:
        """Delete what terminating objects hold, and finalize those that are empty; returns whether there were any."""
        return self._queue.drain(self._sync)

    def _sync(self, name: str) -> None:
        res = self._store.resource(self._owner_resource)
        owner = self._store.find(res, None, name) if res is not None else None
        if res is not None and owner is not None and "deletionTimestamp" in owner["metadata"]:
            self._delete_content(res, owner)

    def _on_change(self, change: Change) -> None:
        if change.group_resource == self._owner_resource:
            if change.new is not None and "deletionTimestamp" in change.new["metadata"]:
                self._queue.add(change.key[1])
        elif change.new is None and (owner := self._owner_of(change)):
            self._queue.add(owner)

    @abstractmethod
    def _owner_of(self, change: Change) -> str:
        """Return the name of the object that a deleted one belonged to; empty if to none."""

    @abstractmethod
    def _delete_content(self, res: Resource, owner: Object) -> None:
        """Delete what an object holds; remove its finalizer once that is nothing."""


class NamespaceController(_ContentDeletion):
    """Deletes the content of terminating namespaces, then removes their finalizer."""

    _owner_resource = NAMESPACES

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._now = now
        super().__init__(store)

    def _owner_of(self, change: Change) -> str:
        return change.key[0]

    def _delete_content(self, res: Resource, owner: Object) -> None:
        name = owner["metadata"]["name"]
        remaining: list[Object] = []
        for content_res in _namespaced(self._store):
            _delete_all(self._store, content_res, name)
            remaining.extend(self._store.list(content_res, name).items)
        if remaining:
            self._write_status(
                res,
                owner,
                namespace_conditions.status(owner["status"], self._count(remaining), rfc3339(self._now())),
            )
            return
        finalizers = [each for each in owner["spec"].get("finalizers", ()) if each != _KUBERNETES]
        update = {
            **owner,
            "spec": {**owner["spec"], "finalizers": finalizers},
        }
        options = Options(manager="namespace-controller")
        try_write(lambda: self._store.update(res, None, name, update, options, subresource="finalize"))

    def _count(self, remaining: Iterable[Object]) -> namespace_conditions.Counts:
        """Count objects by resource, and by the finalizers that block them."""
        kinds: dict[str, int] = {}
        finalizers: dict[str, int] = {}
        for obj in remaining:
            res = self._store.registry.kind(obj["apiVersion"], obj["kind"])
            name = f"{res.plural}.{res.group}" if res is not None else obj["kind"]
            kinds[name] = kinds.get(name, 0) + 1
            for finalizer in obj["metadata"].get("finalizers") or ():
                finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
        return namespace_conditions.Counts(kinds, finalizers)

    def _write_status(self, res: Resource, namespace: Object, status: Object) -> None:
        if status != namespace["status"]:
            name, options = namespace["metadata"]["name"], Options(manager="kube-controller-manager")
            update = namespace | {"status": status}
            try_write(lambda: self._store.update(res, None, name, update, options, subresource="status"))


class CRDFinalizer(_ContentDeletion):
    """Deletes the objects of terminating CustomResourceDefinitions, then removes their finalizer."""

    _owner_resource = DEFINITIONS

    def _owner_of(self, change: Change) -> str:
        group, plural = change.group_resource
        return f"{plural}.{group}" if "." in group else ""

    def _delete_content(self, res: Resource, owner: Object) -> None:
        custom = self._store.resource((owner["spec"]["group"], owner["spec"]["names"]["plural"]))
        if custom is not None:
            _delete_all(self._store, custom, None)
            if self._store.list(custom, None).items:
                return
        meta = owner["metadata"]
        remaining = [each for each in meta.get("finalizers") or () if each != CLEANUP_FINALIZER]
        body = {"metadata": {"uid": meta["uid"], "finalizers": remaining or None}}
        options = Options(manager="definition-controller")
        try_write(lambda: self._store.patch(res, None, meta["name"], Patch("merge", body), options))


def _namespaced(store: Store) -> Iterator[Resource]:
    """Yield each namespaced resource, in one of its versions."""
    keys = set()
    for res in store.registry.resources():
        if res.namespaced and (res.group, res.plural) not in keys:
            keys.add((res.group, res.plural))
            yield res


def _delete_all(store: Store, res: Resource, namespace: str | None) -> None:
    """Delete every object that is not terminating yet."""
    for obj in store.list(res, namespace).items:
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta:
            options = DeleteOptions(uid=meta["uid"], propagation="Background")
            try_write(
                lambda meta=meta, options=options: store.delete(  # type: ignore[misc]
                    res, meta.get("namespace"), meta["name"], options
                )
            )
