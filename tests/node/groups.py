"""Control groups: where a node keeps its Pods apart, and how all that runs in them is ended."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.node.layout import Machine
from tests.node.waiting import until

_GROUPS = Path("/sys/fs/cgroup")
_SECONDS = 20.0


def hierarchies() -> list[Path]:
    """Return where control groups lie: one folder (version 2), or one for each controller (version 1)."""
    if (_GROUPS / "cgroup.controllers").exists():
        return [_GROUPS]
    folders = (path for path in _GROUPS.iterdir() if not path.is_symlink())
    return sorted(folder for folder in folders if (folder / "cgroup.procs").exists())


def make(machine: Machine) -> None:
    """Make the control group below which a kubelet keeps its Pods, in every hierarchy."""
    for hierarchy in hierarchies():
        group = hierarchy / machine.cgroup.strip("/")
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())


def clear(machine: Machine) -> None:
    """End every process in a node's control groups, and take the groups away."""

    def gone() -> bool:
        found = set(_members(machine))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    until(gone, _SECONDS, f"the containers of {machine.name} are gone")
    for group in _groups(machine):
        group.rmdir()


def _members(machine: Machine) -> Iterator[int]:
    for group in _groups(machine):
        with contextlib.suppress(OSError):  # gone meanwhile
            yield from (int(pid) for pid in (group / "cgroup.procs").read_text().split())


def _groups(machine: Machine) -> Iterator[Path]:
    """Yield a node's control groups, the innermost first."""
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / machine.cgroup.strip("/"), topdown=False):
            yield Path(folder)
