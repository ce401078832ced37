"""What a node leaves on its machine beside its folder: containers' processes, mounts, control groups, links. All of it is taken away here."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.node.layout import Layout, Machine
from tests.node.waiting import until

_GROUPS = Path("/sys/fs/cgroup")
_LOG_LINKS = Path("/var/log/containers")
_NETWORK_RESULTS = Path("/var/lib/cni/results")
_SECONDS = 20.0


def hierarchies() -> list[Path]:
    """Return where control groups lie: one folder (version 2), or one for each controller (version 1)."""
    if (_GROUPS / "cgroup.controllers").exists():
        return [_GROUPS]
    return sorted(path for path in _GROUPS.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink())


def make_group(machine: Machine) -> None:
    """Make the control group below which a kubelet keeps its Pods, in every hierarchy."""
    for hierarchy in hierarchies():
        group = hierarchy / machine.cgroup.strip("/")
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())


def kill_containers(machine: Machine) -> None:
    """End every process in a node's control group."""

    def gone() -> bool:
        found = set(_members(machine))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    until(gone, _SECONDS, f"the containers of {machine.name} are gone")


def _members(machine: Machine) -> Iterator[int]:
    for group in _groups(machine):
        with contextlib.suppress(OSError):  # gone meanwhile
            yield from (int(pid) for pid in (group / "cgroup.procs").read_text().split())


def _groups(machine: Machine) -> Iterator[Path]:
    """Yield a node's control groups, the innermost first."""
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / machine.cgroup.strip("/"), topdown=False):
            yield Path(folder)


def clear_node(machine: Machine) -> None:
    """Take away a node's control groups and the records of its runtime and its network."""
    for group in _groups(machine):
        with contextlib.suppress(OSError):
            group.rmdir()
    for folder in (f"flexinfer-containerd-{machine.name}", f"flexinfer-cni-{machine.name}"):
        _unmount(Path("/run") / folder)
        shutil.rmtree(Path("/run") / folder, ignore_errors=True)
    for record in _NETWORK_RESULTS.glob(f"{machine.namespace}-*"):
        record.unlink()


def clear_folder(layout: Layout) -> None:
    """Take away a cluster's folder, and the links of kubelets into it."""
    for link in _LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(layout.root):
            link.unlink()
    _unmount(layout.root)
    shutil.rmtree(layout.root, ignore_errors=True)


def mounts(folder: Path) -> list[str]:
    """Return what is mounted below a folder, the innermost first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    places = [line.split()[1].replace("\\040", " ") for line in lines]
    return sorted((place for place in places if Path(place).is_relative_to(folder)), reverse=True)


def _unmount(folder: Path) -> None:
    for place in mounts(folder):
        subprocess.run(("umount", "--lazy", place), check=False, capture_output=True)
