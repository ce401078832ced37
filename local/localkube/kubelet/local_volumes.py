"""Local volumes: a dynamic provisioner for one StorageClass. A PVC is a folder `volumes/<namespace>/<claim>` of this node.

The class has WaitForFirstConsumer: a PVC gets a PersistentVolume over its folder when the scheduler selected this node for it, or when a
Pod bound to this node uses it; the controllers of the API server then bind the two. The folder outlives PVC and volume: weights that
took an hour to download are removed by a user, never because an object was deleted.
"""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

from localkube.kubelet.api_errors import AlreadyExistsError, ApiError, NotFoundError
from localkube.kubelet.client import Client, Object
from localkube.kubelet.list_watch import list_and_watch
from localkube.kubelet.volumes import VolumeError

STORAGE_CLASS: Object = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local"},
    "provisioner": "localkube/local",
    "reclaimPolicy": "Retain",
    "volumeBindingMode": "WaitForFirstConsumer",
}
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_BINDING_SECONDS = 5.0

log = logging.getLogger(__name__)


class VolumeFolders(NamedTuple):
    """Where the folders of PVCs are. `shared`: every node of the cluster reaches them, so a volume names no node."""

    root: Path
    shared: bool = False


class LocalVolumeProvisioner:
    """Provisions the PVCs of `storage_class` (an object) for one node, as folders."""

    def __init__(self, client: Client, folders: VolumeFolders, node: str, storage_class: Object) -> None:
        self._class = storage_class
        self.storage_class = str(storage_class["metadata"]["name"])
        self._client = client
        self._folders = folders
        self._node = node
        self._cache: dict[tuple[str, str], Object] = {}  # by (namespace, name)
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Follow all PVCs until cancelled, and provision those for which this node was selected."""
        with contextlib.suppress(ApiError):  # exists already, or may not be created by this identity
            await self._client.create(_CLASSES, self._class)
        async for change, claim in list_and_watch(self._client, _CLAIMS):
            await self._update_cache(change, claim)
            try:
                if change == "DELETED":
                    await self._delete_volume(claim)
                elif self._selected(claim):
                    await self._provision(claim)
            except (OSError, ApiError) as error:
                log.warning("claim %s/%s: %s", *_key(claim), error)

    async def _update_cache(self, change: str, claim: Object) -> None:
        if change == "DELETED":
            self._cache.pop(_key(claim), None)
        else:
            self._cache[_key(claim)] = claim
        async with self._changed:
            self._changed.notify_all()

    async def folder(self, namespace: str, name: str) -> Path:
        """Return the folder of a PVC, provisioned and bound if necessary. Raises VolumeError, ApiError."""
        claim = self._cache.get((namespace, name))
        if claim is None or not _bound(claim):
            claim = await self._get(namespace, name)
        if claim["spec"].get("storageClassName") != self.storage_class:
            return await self._folder_of_other_class(claim)
        folder = await self._provision(claim)
        if not _bound(claim):
            await self._until_bound(_key(claim))
        return folder

    async def _provision(self, claim: Object) -> Path:
        """Create the folder, and a volume for it unless the PVC has one."""
        folder = self._folders.root.joinpath(*_key(claim))
        folder.mkdir(parents=True, exist_ok=True)
        if not claim["spec"].get("volumeName"):
            volume = _volume(claim, folder, self._node, self._class)
            if not self._folders.shared:
                volume["spec"]["nodeAffinity"] = _affinity(self._node)
            with contextlib.suppress(AlreadyExistsError):
                await self._client.create(_VOLUMES, volume)
        return folder

    async def _until_bound(self, key: tuple[str, str]) -> None:
        try:
            async with asyncio.timeout(_BINDING_SECONDS), self._changed:
                await self._changed.wait_for(lambda: _bound(self._cache.get(key, {})))
        except TimeoutError:
            raise VolumeError(f'persistentvolumeclaim "{key[1]}" is not bound to its volume yet') from None

    async def _get(self, namespace: str, name: str) -> Object:
        try:
            return await self._client.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
        except NotFoundError as error:
            raise VolumeError(f'persistentvolumeclaim "{name}" not found') from error

    async def _folder_of_other_class(self, claim: Object) -> Path:
        """Return the folder of a PVC of another class that is bound to a hostPath or local volume of this machine."""
        volume = claim["spec"].get("volumeName")
        if volume:
            obj = await self._client.get(f"{_VOLUMES}/{volume}")
            folder = (obj["spec"].get("hostPath") or obj["spec"].get("local") or {}).get("path")
            if folder and Path(folder).is_dir():  # noqa: ASYNC240 -- one stat
                return Path(folder)
        raise VolumeError(
            f'persistentvolumeclaim "{claim["metadata"]["name"]}" has StorageClass '
            f'"{claim["spec"].get("storageClassName", "")}": the local node mounts claims of "{self.storage_class}"'
        )

    async def _delete_volume(self, claim: Object) -> None:
        """Delete the volume of a deleted PVC; its folder stays."""
        name = claim["spec"].get("volumeName", "")
        if claim["spec"].get("storageClassName") != self.storage_class or not name:
            return
        with contextlib.suppress(NotFoundError):
            volume = await self._client.get(f"{_VOLUMES}/{name}")
            reference = volume["spec"].get("claimRef", {})
            if reference.get("uid") == claim["metadata"]["uid"] and _ours(
                volume, self._node, str(self._class["provisioner"])
            ):
                await self._client.delete(f"{_VOLUMES}/{name}", uid=volume["metadata"]["uid"])

    def _selected(self, claim: Object) -> bool:
        annotations: dict[str, Any] = claim["metadata"].get("annotations") or {}
        ours = claim["spec"].get("storageClassName") == self.storage_class
        return ours and not _bound(claim) and annotations.get(SELECTED_NODE) == self._node


def _key(claim: Object) -> tuple[str, str]:
    return claim["metadata"]["namespace"], claim["metadata"]["name"]


def _bound(claim: Object) -> bool:
    return (claim.get("status") or {}).get("phase") == "Bound"


def _ours(volume: Object, node: str, provisioner: str) -> bool:
    annotations = volume["metadata"].get("annotations") or {}
    return bool(
        annotations.get("pv.kubernetes.io/provisioned-by") == provisioner
        and annotations.get(SELECTED_NODE) == node
    )


def _volume(claim: Object, folder: Path, node: str, storage_class: Object) -> Object:
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            "annotations": {
                "pv.kubernetes.io/provisioned-by": storage_class["provisioner"],
                SELECTED_NODE: node,
            },
        },
        "spec": {
            "capacity": {"storage": spec.get("resources", {}).get("requests", {}).get("storage", "1Gi")},
            "accessModes": spec.get("accessModes", ["ReadWriteOnce"]),
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": "Filesystem",
            "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


def _affinity(node: str) -> Object:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
