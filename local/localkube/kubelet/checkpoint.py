"""Checkpoints: what the kubelet keeps of its Pods on disk, so that the next process continues where this one was killed.

One small file a Pod, replaced as a whole. It records what was started, never whether it still runs: the kernel is asked for that.
"""

import contextlib
import logging
from pathlib import Path

import msgspec

from localkube.files import PatientWriter
from localkube.kubelet.client import Object
from localkube.process_identity import Identity

log = logging.getLogger(__name__)


class ContainerRecord(msgspec.Struct, kw_only=True):
    """One container: `attempt` counts its starts, `streak` its ends in a row (see `backoff`); `state` and `last` are containerStatus fields."""

    attempt: int = 0
    restarts: int = 0
    streak: int = 0
    state: Object = {}
    last: Object = {}
    ready: bool = False
    started: bool = False
    identity: Identity | None = None

    @property
    def id(self) -> str:
        """The containerID: unique among the processes of this boot of the machine."""
        return f"process://{self.identity.pid}.{self.identity.started}" if self.identity else ""


class PodRecord(msgspec.Struct, kw_only=True):
    """One Pod. `failed` holds reason and message if the node rejected it or stopped it.

    `devices` are the indices that it was allocated, `device_ids` what these devices are called in its status.
    """

    pod: Object
    address: str
    started_at: str
    boot: str
    devices: dict[str, list[int]] = {}
    device_ids: dict[str, list[str]] = {}
    containers: dict[str, ContainerRecord] = {}
    failed: tuple[str, str] | None = None

    @property
    def uid(self) -> str:
        """The Pod's uid."""
        return str(self.pod["metadata"]["uid"])

    def container(self, name: str) -> ContainerRecord:
        """Return the record of a container, created if absent."""
        return self.containers.setdefault(name, ContainerRecord())


class CheckpointManager:
    """The folder of checkpoints."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = PatientWriter()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def run(self) -> None:
        """Write what could not be written for want of room, until cancelled."""
        await self._files.run()

    def load(self) -> list[PodRecord]:
        """Return the records of all Pods; a file that cannot be read is renamed and logged."""
        records = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                records.append(msgspec.json.decode(path.read_bytes(), type=PodRecord))
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("%s cannot be read and is renamed: %s", path, error)
                path.rename(path.with_suffix(".unreadable"))
        return records

    def save(self, record: PodRecord) -> None:
        """Write a record, whole, now or as soon as there is room."""
        self._files.write(self._path(record), lambda: msgspec.json.encode(record))

    def remove(self, record: PodRecord) -> None:
        """Delete the record of a Pod."""
        self._files.forget(self._path(record))

    def _path(self, record: PodRecord) -> Path:
        return self._folder / f"{record.uid}.json"


def boot_id() -> str:
    """Return the boot id of this machine: process ids of another boot mean nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
