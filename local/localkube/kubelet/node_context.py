"""NodeContext: the dependencies that all Pods of one node share, and the layout of its state folder. It has no behaviour."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from localkube.kubelet.backoff import BackOff
from localkube.kubelet.checkpoint import CheckpointManager
from localkube.kubelet.client import Client, Object
from localkube.kubelet.device_manager import DeviceManager
from localkube.kubelet.event_recorder import EventRecorder
from localkube.kubelet.image_runtimes import ImageRuntimes
from localkube.kubelet.local_volumes import LocalVolumeProvisioner
from localkube.kubelet.pod_ips import PodIPAllocator


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one node below its state folder."""

    state: Path

    @property
    def checkpoints(self) -> Path:
        """One checkpoint file a Pod."""
        return self.state / "node" / "pods"

    @property
    def runs(self) -> Path:
        """What the shells beside the containers write (see `container_process`)."""
        return self.state / "node" / "runs"

    @property
    def claims(self) -> Path:
        """The folders of PVCs, by namespace and name."""
        return self.state / "volumes"

    def scratch(self, pod: Object) -> Path:
        """Return the folder that is removed with a Pod: its volumes and the working directory of its processes."""
        return self.state / "node" / "scratch" / str(pod["metadata"]["uid"])

    def log(self, pod: Object, container: str, attempt: int) -> Path:
        """Return the file that holds what one run of a container printed."""
        return self.logs(pod) / container / f"{attempt - 1}.log"

    def container_logs(self) -> Iterable[Path]:
        """Return the files of all Pods' logs."""
        return (self.state / "logs" / "pods").glob("*/*/*.log")

    def logs(self, pod: Object) -> Path:
        """Return the folder of a Pod's logs."""
        metadata = pod["metadata"]
        name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return self.state / "logs" / "pods" / name


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node: its name, its allocators, its connections. `listed` is set once its Pods have been listed."""

    name: str
    layout: Layout
    client: Client
    session: aiohttp.ClientSession
    pod_ips: PodIPAllocator
    devices: DeviceManager
    claims: LocalVolumeProvisioner
    events: EventRecorder
    checkpoints: CheckpointManager
    back_off: BackOff
    boot: str
    images: ImageRuntimes
    mounts_variable: str
    devices_annotation: str
    listed: asyncio.Event = field(default_factory=asyncio.Event)
