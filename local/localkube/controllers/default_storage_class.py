"""Default storage class controller: a PVC that names no class gets the default one.

The API server of Kubernetes does so when the PVC is created (admission plugin DefaultStorageClass), its PV controller for one that is
older than the default class (RetroactiveDefaultStorageClass); here the latter does both. An empty class is a choice and stays.
"""

from typing import Final, TypeAlias

from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.watch_cache import Change
from localkube.controllers.workqueue import WorkQueue, try_write

Key: TypeAlias = tuple[str | None, str]
DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
_CLAIMS: Final = ("", "persistentvolumeclaims")
_CLASSES: Final = ("storage.k8s.io", "storageclasses")
_OPTIONS = Options(manager="kube-controller-manager")


class DefaultStorageClassController:
    """Gives PVCs the default class."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims, self._classes = self._resource(*_CLAIMS), self._resource(*_CLASSES)
        self._queue: WorkQueue[Key] = WorkQueue()
        self._add_all()
        store.observe(self._on_change)

    def step(self) -> bool:
        """Give the class to the PVCs that need one; returns whether anything had changed."""
        return self._queue.drain(self._sync)

    def _on_change(self, change: Change) -> None:
        if change.group_resource == _CLAIMS and change.new is not None:
            self._queue.add(change.key)
        elif change.group_resource == _CLASSES:
            self._add_all()

    def _add_all(self) -> None:
        for claim in self._store.list(self._claims, None).items:
            self._queue.add((claim["metadata"]["namespace"], claim["metadata"]["name"]))

    def _sync(self, key: Key) -> None:
        claim = self._store.find(self._claims, *key)
        if claim is None or "storageClassName" in claim["spec"] or claim["spec"].get("volumeName"):
            return
        name = self._default()
        if name:
            body = {"metadata": {"uid": claim["metadata"]["uid"]}, "spec": {"storageClassName": name}}
            try_write(lambda: self._store.patch(self._claims, *key, Patch("merge", body), _OPTIONS))

    def _default(self) -> str:
        """Return the default class, of several the newest, then the first by name; empty if there is none."""
        defaults = [one for one in self._store.list(self._classes, None).items if _is_default(one)]
        newest = max((one["metadata"]["creationTimestamp"] for one in defaults), default="")
        names = [
            one["metadata"]["name"] for one in defaults if one["metadata"]["creationTimestamp"] == newest
        ]
        return min(names, default="")

    def _resource(self, group: str, plural: str) -> Resource:
        res = self._store.registry.find(group, "v1", plural)
        if res is None:
            raise LookupError(f"the registry has no {plural}")
        return res


def _is_default(storage_class: Object) -> bool:
    return (storage_class["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
