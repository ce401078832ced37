"""Persistent volume controller: binds a PVC and the PersistentVolume that was provisioned for it to each other.

The PV controller of kube-controller-manager, reduced to volumes with a `claimRef`, as every provisioner writes it: no PVC is matched to
a volume by size or class, and a released volume is never deleted or recycled.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.watch_cache import Change
from localkube.controllers.workqueue import WorkQueue, try_write

Key: TypeAlias = tuple[str | None, str]
CLAIMS: Final = ("", "persistentvolumeclaims")
VOLUMES: Final = ("", "persistentvolumes")
_OPTIONS = Options(manager="kube-controller-manager")
_BOUND: Object = {
    "pv.kubernetes.io/bind-completed": "yes",
    "pv.kubernetes.io/bound-by-controller": "yes",
}


class PersistentVolumeController:
    """Binds PVCs to their volumes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims, self._volumes = self._resource(CLAIMS[1]), self._resource(VOLUMES[1])
        self._queue: WorkQueue[str] = WorkQueue()
        for volume in store.list(self._volumes, None).items:
            self._queue.add(volume["metadata"]["name"])
        store.observe(self._on_change)

    def step(self) -> bool:
        """Bind what can be bound, and mark volumes without a PVC as Released; returns whether anything had changed."""
        return self._queue.drain(self._sync)

    def _on_change(self, change: Change) -> None:
        if change.group_resource == VOLUMES and change.new is not None:
            self._queue.add(change.key[1])
        elif change.group_resource == CLAIMS:
            for name in self._volumes_for(change.key):
                self._queue.add(name)

    def _volumes_for(self, claim: Key) -> Iterable[str]:
        for volume in self._store.list(self._volumes, None).items:
            reference = volume["spec"].get("claimRef") or {}
            if (reference.get("namespace"), reference.get("name")) == claim:
                yield volume["metadata"]["name"]

    def _sync(self, name: str) -> None:
        volume = self._store.find(self._volumes, None, name)
        reference = (volume or {}).get("spec", {}).get("claimRef")
        if volume is None or not reference:
            return
        claim = self._store.find(self._claims, reference["namespace"], reference["name"])
        if claim is None or claim["metadata"]["uid"] != reference.get("uid", claim["metadata"]["uid"]):
            self._write_status(self._volumes, volume, {"phase": "Released"})
        elif claim["spec"].get("volumeName") in (None, "", name):
            self._bind(claim, volume)

    def _bind(self, claim: Object, volume: Object) -> None:
        metadata, name = claim["metadata"], volume["metadata"]["name"]
        if claim["spec"].get("volumeName") != name:
            body = {
                "metadata": {"uid": metadata["uid"], "annotations": _BOUND},
                "spec": {"volumeName": name},
            }
            try_write(
                lambda: self._store.patch(
                    self._claims, metadata["namespace"], metadata["name"], Patch("merge", body), _OPTIONS
                )
            )
        size = {key: volume["spec"][key] for key in ("accessModes", "capacity")}
        self._write_status(self._claims, claim, {"phase": "Bound", **size})
        self._write_status(self._volumes, volume, {"phase": "Bound"})

    def _write_status(self, res: Resource, obj: Object, status: Object) -> None:
        """Merge fields into a status unless it has them already."""
        metadata, current = obj["metadata"], obj.get("status") or {}
        if any(current.get(key) != value for key, value in status.items()):
            patch = Patch("merge", {"metadata": {"uid": metadata["uid"]}, "status": status})
            try_write(
                lambda: self._store.patch(
                    res, metadata.get("namespace"), metadata["name"], patch, _OPTIONS, "status"
                )
            )

    def _resource(self, plural: str) -> Resource:
        res = self._store.registry.find("", "v1", plural)
        if res is None:
            raise LookupError(f"the registry has no {plural}")
        return res
