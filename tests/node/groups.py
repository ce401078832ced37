"""The control groups of a node's Pods, and how all processes in them are killed."""

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
    """Return the roots of the control groups: one (version 2), or one for each controller (version 1)."""
    if (_GROUPS / "cgroup.controllers").exists():
        return [_GROUPS]
    folders = (path for path in _GROUPS.iterdir() if not path.is_symlink())
    return sorted(folder for folder in folders if (folder / "cgroup.procs").exists())


def make(machine: Machine) -> None:
    """Create the control group for the Pods of a kubelet in every hierarchy."""
    for hierarchy in hierarchies():
        group = hierarchy / machine.cgroup.strip("/")
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())


def clear(machine: Machine) -> None:
    """Kill every process in the control groups of a node, and remove the groups."""

    def gone() -> bool:
        pids = set(_members(machine))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    until(gone, _SECONDS, f"the containers of {machine.name} are gone")
    for group in _groups(machine):
        group.rmdir()


def _members(machine: Machine) -> Iterator[int]:
    for group in _groups(machine):
        with contextlib.suppress(OSError):  # removed meanwhile
            yield from (int(pid) for pid in (group / "cgroup.procs").read_text().split())


def _groups(machine: Machine) -> Iterator[Path]:
    """Yield the control groups of a node, innermost first."""
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / machine.cgroup.strip("/"), topdown=False):
            yield Path(folder)
