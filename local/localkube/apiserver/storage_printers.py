"""The printers of storage kinds: PersistentVolume, PersistentVolumeClaim and StorageClass."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from localkube.apiserver import human_duration
from localkube.apiserver.printing import UNSET, Printer, columns, name_of
from localkube.apiserver.resources import Object

_ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def _volume(volume: Object, now: datetime) -> list[Any]:
    spec, claim = volume.get("spec", {}), volume.get("spec", {}).get("claimRef")
    return [
        name_of(volume),
        spec.get("capacity", {}).get("storage", "0"),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(volume),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or UNSET,
        volume.get("status", {}).get("reason", ""),
        human_duration.age(volume, now),
        spec.get("volumeMode") or UNSET,
    ]


def _claim(claim: Object, now: datetime) -> list[Any]:
    spec, status = claim.get("spec", {}), claim.get("status", {})
    bound = bool(spec.get("volumeName"))
    return [
        name_of(claim),
        _phase(claim),
        spec.get("volumeName", ""),
        status.get("capacity", {}).get("storage", "0") if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        human_duration.age(claim, now),
        spec.get("volumeMode") or UNSET,
    ]


def _phase(obj: Object) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str(obj.get("status", {}).get("phase", ""))


def _modes(modes: Sequence[str] | None) -> str:
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in (modes or ()))


def _class(storage: Object, now: datetime) -> list[Any]:
    default = (storage["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    return [
        name_of(storage) + (" (default)" if default else ""),
        storage.get("provisioner", ""),
        storage.get("reclaimPolicy", "Delete"),
        storage.get("volumeBindingMode", "Immediate"),
        "true" if storage.get("allowVolumeExpansion") else "false",
        human_duration.age(storage, now),
    ]


STORAGE_PRINTERS: Mapping[tuple[str, str], Printer] = {  # (group, kind) -> printer
    ("", "PersistentVolume"): Printer(
        columns(
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age",
            "VolumeMode",
        ),
        _volume,
    ),
    ("", "PersistentVolumeClaim"): Printer(
        columns(
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age", "VolumeMode"
        ),
        _claim,
    ),
    ("storage.k8s.io", "StorageClass"): Printer(
        columns("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"), _class
    ),
}
