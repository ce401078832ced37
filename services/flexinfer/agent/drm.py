"""DrmClients: how much memory of each device the processes hold that have it open for graphics, by /proc/<pid>/fdinfo.

Which files of which processes are open on /dev/dri is looked up once in so many readings, since that reads every process of the
node; in between only those files are read. Without the rights of root only one's own processes can be looked at:
`complete` is False then. Format: the kernel's Documentation/gpu/drm-usage-stats.rst.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

_LOOK_UP_EVERY = 20
"""Readings; two are taken each second. Until then the memory of a new process is in use by none."""
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20}


class DrmUsage(msgspec.Struct, frozen=True):
    """Bytes by PCI address and pid; `complete`: no process could hold a device unseen."""

    held: Mapping[str, Mapping[int, int]]
    complete: bool


class DrmClients:
    """The processes that have devices open; `proc` is the root of /proc."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._files: list[tuple[int, Path]] = []
        self._complete = False
        self._readings = 0

    def read(self) -> DrmUsage:
        """Return who holds memory now. A client that several files or processes share counts once, for the first."""
        if self._readings % _LOOK_UP_EVERY == 0:
            self._look_up()
        self._readings += 1
        holdings: dict[str, dict[int, int]] = {}
        clients = set()
        for pid, path in self._files:
            fields = dict(_fields(path))
            address, client = fields.get("drm-pdev", ""), fields.get("drm-client-id", "")
            if not address or (address, client) in clients:
                continue
            clients.add((address, client))
            by_pid = holdings.setdefault(address, {})
            by_pid[pid] = by_pid.get(pid, 0) + _memory(fields)
        return DrmUsage(holdings, self._complete)

    def _look_up(self) -> None:
        self._files, self._complete = [], True
        for process in sorted(self._proc.glob("[0-9]*"), key=lambda path: int(path.name)):
            try:
                self._files += [(int(process.name), path) for path in _open_on_devices(process)]
            except PermissionError:
                self._complete = False
            except OSError:
                continue  # it has ended


def _open_on_devices(process: Path) -> Iterator[Path]:
    """Yield the fdinfo of the files of a process that are open on a device. Raises OSError.

    A node has tens of thousands of open files: `os` reads a link in 3 microseconds, `pathlib` in 60.
    """
    folder = os.fspath(process / "fd")
    for name in os.listdir(folder):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"{folder}/{name}").startswith("/dev/dri/"):  # noqa: PTH115
                yield process / "fdinfo" / name


def _fields(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the fields of a file of fdinfo; none if it was closed."""
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            yield name, value.strip()


def _memory(fields: Mapping[str, str]) -> int:
    """Return the device memory that a client alone holds, in bytes.

    What it shares with another client is counted for neither: counted twice it would hide memory of a third.
    Kernels before 6.13 name the memory `drm-memory-vram` alone.
    """
    resident_bytes = _bytes(fields.get("drm-resident-vram", fields.get("drm-memory-vram", "")))
    return max(0, resident_bytes - _bytes(fields.get("drm-shared-vram", "")))


def _bytes(value: str) -> int:
    number, _, unit = value.partition(" ")
    with contextlib.suppress(ValueError, KeyError):
        return int(number) * _UNITS[unit.strip()]
    return 0
