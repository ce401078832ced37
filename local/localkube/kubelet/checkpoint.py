"""CheckpointManager: what the node remembers of its Pods on disk, so that its successor goes on where it was killed.

One small file a Pod, replaced as a whole. It says what was begun, never what is true now: whether a process lives is asked of the kernel.
"""

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from localkube.kubelet.client import Object
from localkube.process_identity import Identity

log = logging.getLogger(__name__)


class ContainerRecord(msgspec.Struct, kw_only=True):
    """One container: `attempt` counts the starts that were begun, `streak` the ends in a row (see `backoff`)."""

    attempt: int = 0
    restarts: int = 0
    streak: int = 0
    state: Object = {}  # as in a containerStatus
    last: Object = {}
    ready: bool = False
    started: bool = False
    identity: Identity | None = None

    @property
    def id(self) -> str:
        """Return what tells this run from all others on this machine since it was booted."""
        return f"process://{self.identity.pid}.{self.identity.started}" if self.identity else ""


class PodRecord(msgspec.Struct, kw_only=True):
    """One Pod. `failed` holds reason and message when the node refused it, or took it down."""

    pod: Object
    address: str
    started_at: str
    boot: str
    devices: dict[str, list[int]] = {}
    containers: dict[str, ContainerRecord] = {}
    failed: tuple[str, str] | None = None

    @property
    def uid(self) -> str:
        """The Pod's uid."""
        return str(self.pod["metadata"]["uid"])

    def container(self, name: str) -> ContainerRecord:
        """Return the record of a container, new if there is none."""
        return self.containers.setdefault(name, ContainerRecord())


class CheckpointManager:
    """The folder of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> list[PodRecord]:
        """Return all records; one that cannot be read is left aside and said."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=PodRecord))
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("%s cannot be read, and is left aside: %s", path, error)
                path.rename(path.with_suffix(".unreadable"))
        return found

    def save(self, record: PodRecord) -> None:
        """Write a record, whole or not at all."""
        path = self._folder / f"{record.uid}.json"
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(record))
        draft.replace(path)

    def remove(self, record: PodRecord) -> None:
        """Forget a Pod."""
        (self._folder / f"{record.uid}.json").unlink(missing_ok=True)


def boot_id() -> str:
    """Return what changes whenever this machine boots; processes of another boot are gone, whatever their numbers."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
