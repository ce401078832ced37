"""Engines: the processes of a node's Pods that use its simulated cards, read from the checkpoints of its kubelet.

A Pod uses the devices that the kubelet allocated to it, or those that its engine's environment makes visible. Nothing is counted for a
container whose process has ended.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flexinfer.api.labels import MODEL_LABEL
from flexinfer.local.instance import Instance
from flexinfer.local.simulation import files
from localkube.kubelet.checkpoint import PodRecord
from localkube.kubelet.node_context import Layout
from localkube.process_identity import Identity, alive

VISIBLE = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""The variables that name the devices of a container which requests none as a resource."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """The process of a Pod that runs on devices, by uuid; `model` is empty for a Pod of no Model."""

    identity: Identity
    pod_uid: str
    namespace: str
    model: str
    devices: tuple[str, ...]


def checkpoints_of(instance: Instance, node: str) -> Path:
    """Return the folder in which the kubelet of a simulated node keeps its Pods."""
    return Layout(files.node_state(instance, node)).checkpoints


class Checkpoints:
    """The checkpoints of one node's kubelet, read again only where a file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[Path, tuple[int, PodRecord]] = {}

    def engines(self) -> list[Engine]:
        """Return the engines that run now."""
        self._refresh()
        return [engine for _, record in self._records.values() for engine in _engines(record)]

    def _refresh(self) -> None:
        records: dict[Path, tuple[int, PodRecord]] = {}
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(
                OSError, msgspec.MsgspecError
            ):  # removed meanwhile, or the kubelet's concern
                records[path] = self._record(path)
        self._records = records

    def _record(self, path: Path) -> tuple[int, PodRecord]:
        changed_ns, record = path.stat().st_mtime_ns, self._records.get(path)
        if record is not None and record[0] == changed_ns:
            return record
        return changed_ns, msgspec.json.decode(path.read_bytes(), type=PodRecord)


def _engines(record: PodRecord) -> Iterator[Engine]:
    """Yield the first container that runs on devices: one engine holds the memory of a Pod."""
    metadata = record.pod["metadata"]
    for container in record.pod["spec"]["containers"]:
        identity = record.container(container["name"]).identity
        devices = _devices(container, record)
        if devices and identity is not None and alive(identity):
            yield Engine(
                identity=identity,
                pod_uid=record.uid,
                namespace=str(metadata["namespace"]),
                model=str((metadata.get("labels") or {}).get(MODEL_LABEL, "")),
                devices=devices,
            )
            return


def _devices(container: Mapping[str, Any], record: PodRecord) -> tuple[str, ...]:
    limits = (container.get("resources") or {}).get("limits") or {}
    uuids = [uuid for name, ids in sorted(record.device_ids.items()) if name in limits for uuid in ids]
    if uuids:
        return tuple(uuids)
    values = {entry["name"]: str(entry.get("value") or "") for entry in container.get("env") or ()}
    visible = next((values[name] for name in VISIBLE if values.get(name)), "")
    return tuple(visible.split(",")) if visible else ()


def program(identity: Identity) -> str:
    """Return the name of a process, as the kernel has it; empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{identity.pid}/comm").read_text(errors="replace").strip()
    return ""
