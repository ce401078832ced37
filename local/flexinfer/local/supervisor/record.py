"""The record of the processes of an instance: a file that outlives the supervisor.

`flexinfer services` reads it, and the next supervisor adopts the processes in it. Only the supervisor writes it, atomically.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexinfer.local.installation import Installation
from localkube.process_identity import Identity, alive


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One process as last started; `fingerprint` is that of its program then."""

    name: str
    identity: Identity | None = None
    fingerprint: str = ""
    restarts: int = 0
    adopted: bool = False


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What the `flexinfer up` that runs was started with: the user's settings, as variables, options that no file of the instance has, and of which installation it is."""

    settings: Mapping[str, str] = {}
    options: tuple[str, ...] = ()
    installation: Installation = Installation()
    pid: int = 0
    """Its process; 0: an earlier version, which did not record it."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All processes of an instance, in the order in which they start. `boot` is the machine's boot id; `started` None: not known."""

    boot: str
    entries: tuple[Entry, ...] = ()
    started: Started | None = None

    def entry(self, name: str) -> Entry | None:
        """Return the entry of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def started_by(self, pid: int) -> Started | None:
        """Return what the `flexinfer up` of that process was started with; None while it has not recorded that: the record is of one before it."""
        launch = self.started
        if launch is None or launch.pid == pid:
            return launch
        is_current = not launch.pid and any(
            entry.identity and alive(entry.identity) for entry in self.entries
        )
        return launch if is_current else None


def boot_id() -> str:
    """Return the boot id of this machine: start times of another boot mean nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def read(path: Path) -> Record:
    """Return the record; an empty one if there is none, or it is damaged or of another boot."""
    empty = Record(boot=boot_id())
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return empty
    return record if record.boot == empty.boot else empty


def encode(record: Record) -> bytes:
    """Return the content of the file."""
    return msgspec.json.format(msgspec.json.encode(record))
