"""Deletion with contents: a namespace goes when everything in it is gone, a definition when its objects are.

What has finalizers, or runs on a node, keeps its namespace waiting until whoever is in charge of it lets it go.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.requests import DeleteOptions, Options, Patch
from localkube.apiserver.resource_strategy import CLEANUP_FINALIZER
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import DEFINITIONS, NAMESPACES, Store
from localkube.apiserver.watch_cache import Change
from localkube.controllers import namespace_conditions
from localkube.controllers.workqueue import Work, attempt

_KUBERNETES = "kubernetes"


class Namespaces:
    """Follows namespaces that are being deleted, and what is left in them."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._work: Work[str] = Work()
        for place, (_, name), obj in store.each():
            if place == NAMESPACES and "deletionTimestamp" in obj["metadata"]:
                self._work.add(name)
        self._stop = store.observe(self._take)

    def close(self) -> None:
        """Follow no longer."""
        self._stop()

    def step(self) -> bool:
        """Empty namespaces as far as it goes, and let those go that are empty; returns whether there was any."""
        return self._work.drain(self._look_at)

    def _look_at(self, name: str) -> None:
        res = self._store.resource(NAMESPACES)
        namespace = self._store.find(res, None, name) if res is not None else None
        if res is not None and namespace is not None and "deletionTimestamp" in namespace["metadata"]:
            self._empty(res, namespace)

    def _take(self, change: Change) -> None:
        if change.group_resource == NAMESPACES:
            if change.new is not None and "deletionTimestamp" in change.new["metadata"]:
                self._work.add(change.key[1])
        elif change.new is None and change.key[0]:
            self._work.add(change.key[0])

    def _empty(self, res: Resource, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        left: list[Object] = []
        for content_res in _namespaced(self._store):
            _delete_all(self._store, content_res, name)
            left.extend(self._store.list(content_res, name).items)
        if left:
            self._say(
                res,
                namespace,
                namespace_conditions.status(namespace["status"], self._counted(left), rfc3339(self._now())),
            )
            return
        finalizers = [each for each in namespace["spec"].get("finalizers", ()) if each != _KUBERNETES]
        wanted = {
            **namespace,
            "spec": {**namespace["spec"], "finalizers": finalizers},
        }
        options = Options(manager="namespace-controller")
        attempt(lambda: self._store.update(res, None, name, wanted, options, subresource="finalize"))

    def _counted(self, left: Iterable[Object]) -> namespace_conditions.Counts:
        """Count what is left by resource, and by the finalizers that keep it."""
        kinds: dict[str, int] = {}
        finalizers: dict[str, int] = {}
        for obj in left:
            res = self._store.registry.kind(obj["apiVersion"], obj["kind"])
            name = f"{res.plural}.{res.group}" if res is not None else obj["kind"]
            kinds[name] = kinds.get(name, 0) + 1
            for finalizer in obj["metadata"].get("finalizers") or ():
                finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
        return namespace_conditions.Counts(kinds, finalizers)

    def _say(self, res: Resource, namespace: Object, status: Object) -> None:
        if status != namespace["status"]:
            name, options = namespace["metadata"]["name"], Options(manager="kube-controller-manager")
            wanted = namespace | {"status": status}
            attempt(lambda: self._store.update(res, None, name, wanted, options, subresource="status"))


class Definitions:
    """Follows CustomResourceDefinitions that are being deleted, and what is left of their objects."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._work: Work[str] = Work()
        for place, (_, name), obj in store.each():
            if place == DEFINITIONS and "deletionTimestamp" in obj["metadata"]:
                self._work.add(name)
        self._stop = store.observe(self._take)

    def close(self) -> None:
        """Follow no longer."""
        self._stop()

    def step(self) -> bool:
        """Delete the objects of definitions, and let those go that have none; returns whether there was any."""
        return self._work.drain(self._look_at)

    def _look_at(self, name: str) -> None:
        res = self._store.resource(DEFINITIONS)
        crd = self._store.find(res, None, name) if res is not None else None
        if res is not None and crd is not None and "deletionTimestamp" in crd["metadata"]:
            self._empty(res, crd)

    def _take(self, change: Change) -> None:
        if change.group_resource == DEFINITIONS:
            if change.new is not None and "deletionTimestamp" in change.new["metadata"]:
                self._work.add(change.key[1])
        elif change.new is None and "." in change.group_resource[0]:
            self._work.add(f"{change.group_resource[1]}.{change.group_resource[0]}")

    def _empty(self, res: Resource, crd: Object) -> None:
        custom = self._store.resource((crd["spec"]["group"], crd["spec"]["names"]["plural"]))
        if custom is not None:
            _delete_all(self._store, custom, None)
            if self._store.list(custom, None).items:
                return
        meta = crd["metadata"]
        left = [each for each in meta.get("finalizers") or () if each != CLEANUP_FINALIZER]
        body = {"metadata": {"uid": meta["uid"], "finalizers": left or None}}
        options = Options(manager="definition-controller")
        attempt(lambda: self._store.patch(res, None, meta["name"], Patch("merge", body), options))


def _namespaced(store: Store) -> Iterator[Resource]:
    """Yield each namespaced resource, in one of its versions."""
    seen = set()
    for res in store.registry.resources():
        if res.namespaced and (res.group, res.plural) not in seen:
            seen.add((res.group, res.plural))
            yield res


def _delete_all(store: Store, res: Resource, namespace: str | None) -> None:
    """Delete what is not being deleted yet."""
    for obj in store.list(res, namespace).items:
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta:
            options = DeleteOptions(uid=meta["uid"], propagation="Background")
            attempt(
                lambda meta=meta, options=options: store.delete(  # type: ignore[misc]
                    res, meta.get("namespace"), meta["name"], options
                )
            )
