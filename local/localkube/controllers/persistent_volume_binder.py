"""Claims: a small persistent-volume controller. A claim and the volume that was made for it are bound to each other.

Only volumes that name their claim count (`claimRef`), as those of every provisioner do; no claim is given a volume by size.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.watch_cache import Change
from localkube.controllers.workqueue import Work, attempt

Key: TypeAlias = tuple[str | None, str]
CLAIMS: Final = ("", "persistentvolumeclaims")
VOLUMES: Final = ("", "persistentvolumes")
_OPTIONS = Options(manager="kube-controller-manager")
_BOUND: Object = {
    "pv.kubernetes.io/bind-completed": "yes",
    "pv.kubernetes.io/bound-by-controller": "yes",
}


class Claims:
    """Follows claims and volumes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims, self._volumes = self._named(CLAIMS[1]), self._named(VOLUMES[1])
        self._work: Work[str] = Work()
        for volume in store.list(self._volumes, None).items:
            self._work.add(volume["metadata"]["name"])
        store.observe(self._take)

    def step(self) -> bool:
        """Bind what can be bound and release what lost its claim; returns whether anything had changed."""
        return self._work.drain(self._look)

    def _take(self, change: Change) -> None:
        if change.group_resource == VOLUMES and change.new is not None:
            self._work.add(change.key[1])
        elif change.group_resource == CLAIMS:
            for name in self._volumes_for(change.key):
                self._work.add(name)

    def _volumes_for(self, claim: Key) -> Iterable[str]:
        for volume in self._store.list(self._volumes, None).items:
            reference = volume["spec"].get("claimRef") or {}
            if (reference.get("namespace"), reference.get("name")) == claim:
                yield volume["metadata"]["name"]

    def _look(self, name: str) -> None:
        volume = self._store.find(self._volumes, None, name)
        reference = (volume or {}).get("spec", {}).get("claimRef")
        if volume is None or not reference:
            return
        claim = self._store.find(self._claims, reference["namespace"], reference["name"])
        if claim is None or claim["metadata"]["uid"] != reference.get("uid", claim["metadata"]["uid"]):
            self._say(self._volumes, volume, {"phase": "Released"})
        elif claim["spec"].get("volumeName") in (None, "", name):
            self._bind(claim, volume)

    def _bind(self, claim: Object, volume: Object) -> None:
        metadata, name = claim["metadata"], volume["metadata"]["name"]
        if claim["spec"].get("volumeName") != name:
            told = {
                "metadata": {"uid": metadata["uid"], "annotations": _BOUND},
                "spec": {"volumeName": name},
            }
            attempt(
                lambda: self._store.patch(
                    self._claims, metadata["namespace"], metadata["name"], Patch("merge", told), _OPTIONS
                )
            )
        size = {key: volume["spec"][key] for key in ("accessModes", "capacity")}
        self._say(self._claims, claim, {"phase": "Bound", **size})
        self._say(self._volumes, volume, {"phase": "Bound"})

    def _say(self, res: Resource, obj: Object, status: Object) -> None:
        """Write what a status lacks."""
        metadata, known = obj["metadata"], obj.get("status") or {}
        if any(known.get(key) != value for key, value in status.items()):
            patch = Patch("merge", {"metadata": {"uid": metadata["uid"]}, "status": status})
            attempt(
                lambda: self._store.patch(
                    res, metadata.get("namespace"), metadata["name"], patch, _OPTIONS, "status"
                )
            )

    def _named(self, plural: str) -> Resource:
        found = self._store.registry.find("", "v1", plural)
        if found is None:
            raise LookupError(f"the registry offers no {plural}")
        return found
