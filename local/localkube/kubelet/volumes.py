"""Volumes: the folders behind a Pod's volumes, created before its first container starts; kubelet's volume manager.

emptyDir, configMap, secret, downwardAPI and persistentVolumeClaim. Other types are rejected, hostPath included: a process of the user can read the
host's files anyway, and a manifest that mounts them would do more on a real node. ConfigMaps and Secrets are written once, at the start
of the Pod, files of the downwardAPI at each start of a container; later changes are not followed.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from localkube.kubelet.api_errors import NotFoundError
from localkube.kubelet.client import Client, Object
from localkube.kubelet.volume_mounts import Mount, UnsafePathError, below

OFFERED = ("emptyDir", "configMap", "secret", "downwardAPI", "persistentVolumeClaim")
_EMPTY = ("emptyDir", "downwardAPI")


class VolumeError(Exception):
    """A volume is not available (yet); the message names it and the cause."""


class Claims(Protocol):
    """Provisions PVCs. `storage_class` is the name of the class that it serves."""

    storage_class: str

    async def folder(self, namespace: str, name: str) -> Path:
        """Return the folder of a PVC, provisioned and bound if necessary. Raises VolumeError, ApiError."""
        ...


async def prepare(pod: Object, root: Path, client: Client, claims: Claims) -> dict[str, Path]:
    """Return volume name -> folder of every volume of a Pod. Raises VolumeError for the first that is not available; ApiError."""
    folders: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes", ()):
        kind = next((key for key in volume if key != "name"), "emptyDir")
        if kind == "persistentVolumeClaim":
            folders[volume["name"]] = await claims.folder(
                pod["metadata"]["namespace"], volume[kind]["claimName"]
            )
        elif kind in OFFERED:
            folders[volume["name"]] = folder = root / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            await _fill(folder, kind, volume, pod["metadata"]["namespace"], client)
        else:
            raise VolumeError(_refusal(volume["name"], kind, claims.storage_class))
    return folders


def mounts(container: Object, folders: Mapping[str, Path], pod: Object) -> Iterator[Mount]:
    """Yield a container's mounts. Raises VolumeError for a subPath that leaves its volume."""
    claims = {
        v["name"]: v["persistentVolumeClaim"]
        for v in pod["spec"].get("volumes", ())
        if "persistentVolumeClaim" in v
    }
    for mount in container.get("volumeMounts", ()):
        folder = folders[mount["name"]]
        if mount.get("subPathExpr"):
            raise VolumeError(
                f"subPathExpr of volume {mount['name']} is not offered by the local node: use subPath"
            )
        if mount.get("subPath"):
            folder = _sub_folder(folder, mount["subPath"])
        read_only = bool(mount.get("readOnly") or claims.get(mount["name"], {}).get("readOnly"))
        yield Mount(mount["mountPath"], str(folder), read_only)


def _sub_folder(folder: Path, sub_path: str) -> Path:
    try:
        target = below(folder, sub_path)
        if not target.exists():
            target.mkdir(parents=True)
    except (UnsafePathError, OSError) as error:
        raise VolumeError(str(error)) from error
    return target


def _refusal(name: str, kind: str, storage_class: str) -> str:
    kinds = ", ".join(OFFERED)
    if kind == "hostPath":
        return f"volume {name}: hostPath is refused by the local node; put the files into a claim of StorageClass {storage_class}"
    return f"volume {name}: the local node has no {kind} volumes; it offers {kinds}"


async def _fill(folder: Path, kind: str, volume: Object, namespace: str, client: Client) -> None:
    if kind in _EMPTY:
        return
    origin = volume[kind] or {}
    plural, name = (
        ("configmaps", origin.get("name")) if kind == "configMap" else ("secrets", origin.get("secretName"))
    )
    try:
        source = await client.get(f"/api/v1/namespaces/{namespace}/{plural}/{name}")
    except NotFoundError as error:
        if origin.get("optional"):
            return
        raise VolumeError(f'volume {volume["name"]}: {plural[:-1]} "{name}" not found') from error
    _write(folder, content(source), origin, volume["name"])


def write_fields(
    pod: Object, container: Object, folders: Mapping[str, Path], text: Callable[[str], str]
) -> None:
    """Write a container's files of the downwardAPI; `text` returns what is behind a field. Raises VolumeError, and what `text` raises."""
    mount_names = {mount["name"] for mount in container.get("volumeMounts", ())}
    for volume in pod["spec"].get("volumes", ()):
        origin = volume.get("downwardAPI")
        if origin is None or volume["name"] not in mount_names:
            continue
        items = [item for item in origin.get("items") or () if "fieldRef" in item]
        files = {item["path"]: text(item["fieldRef"]["fieldPath"]).encode() for item in items}
        _write(
            folders[volume["name"]],
            files,
            {**origin, "items": [item | {"key": item["path"]} for item in items]},
            volume["name"],
        )


def content(source: Object) -> dict[str, bytes]:
    """Return the files of a ConfigMap or Secret, by key."""
    binary = dict(source.get("binaryData") or {})
    if source.get("kind") == "Secret":
        binary |= source.get("data") or {}
        plain: Mapping[str, str] = {}
    else:
        plain = source.get("data") or {}
    files = {key: str(value).encode() for key, value in plain.items()}
    return files | {key: base64.b64decode(value) for key, value in binary.items()}


def _write(folder: Path, files: Mapping[str, bytes], origin: Object, name: str) -> None:
    items = origin.get("items") or [{"key": key, "path": key} for key in files]
    for item in items:
        if item["key"] not in files:
            raise VolumeError(f"volume {name}: references non-existent key {item['key']}")
        try:
            target = below(folder, item["path"])
        except UnsafePathError as error:
            raise VolumeError(f"volume {name}: {error}") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(files[item["key"]])
        target.chmod(item.get("mode") or origin.get("defaultMode") or 0o600)
