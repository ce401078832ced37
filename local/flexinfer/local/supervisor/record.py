"""The record: which processes of an instance run, as a file that outlives the supervisor.

It is what `flexinfer services` reads and what the next supervisor adopts from. The supervisor alone writes it, whole or not at all.
"""

import contextlib
from pathlib import Path

import msgspec

from flexinfer.local.instance import write_private
from localkube.process_identity import Identity


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One process as last started; `fingerprint` tells whether it was started as it would be today."""

    name: str
    identity: Identity | None = None
    fingerprint: str = ""
    restarts: int = 0
    adopted: bool = False


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All processes of an instance, in the order in which they start. `boot` is the machine's boot id."""

    boot: str
    entries: tuple[Entry, ...] = ()

    def entry(self, name: str) -> Entry | None:
        """Return the entry of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)


def boot_id() -> str:
    """Return what tells this boot of the machine from another, in which start times mean nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def read(path: Path) -> Record:
    """Return the record; an empty one when there is none, it is damaged, or of another boot."""
    fresh = Record(boot=boot_id())
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return fresh
    return found if found.boot == fresh.boot else fresh


def write(path: Path, record: Record) -> None:
    """Replace the record."""
    write_private(path, msgspec.json.format(msgspec.json.encode(record)))
