"""A node's own view of this machine's files: a mount namespace in which the folders that kubelet and its helpers fill are empty ones of its own.

So two nodes do not meet, nothing is mounted where others see it, and all of it is gone with the namespace.
"""

import contextlib
import subprocess
from pathlib import Path

from tests.node import network
from tests.node.layout import Layout, Machine

VOLUMES = Path("/var/lib/flexinfer/volumes")
"""Where deploy/overlays/dev keeps claims on a node: here a folder of the cluster's own."""
_OWN = (
    "/run/netns",
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
_MAKE = (
    "mount --make-rprivate / && mount --make-rshared /"
    ' && for folder in "$@"; do mkdir -p "$folder" && mount -t tmpfs -o mode=755 own "$folder"; done'
    ' && mkdir -p "$VOLUMES" "$CLAIMS" && mount --bind "$CLAIMS" "$VOLUMES"'
)
"""Private first: a mount that is still a peer of the machine's would show there."""


def command(layout: Layout, machine: Machine) -> tuple[str, ...]:
    """Return what runs a command on a node: in its network and with its view of the files."""
    return (*network.command(machine), f"--mount={_handle(layout, machine)}")


def make(layout: Layout, machine: Machine) -> None:
    """Make a node's view unless it is there."""
    handle = _handle(layout, machine)
    if _mounted(handle):
        return
    handle.parent.mkdir(parents=True, exist_ok=True)
    if not _mounted(handle.parent):  # what holds a mount namespace must not be shared itself
        _run("mount", "--bind", str(handle.parent), str(handle.parent))
        _run("mount", "--make-private", str(handle.parent))
    handle.touch()
    told = ("env", f"VOLUMES={VOLUMES}", f"CLAIMS={layout.claims(machine)}")
    _run(*told, "unshare", f"--mount={handle}", "--propagation", "private", "sh", "-c", _MAKE, "sh", *_OWN)


def remove(layout: Layout, machine: Machine) -> None:
    """Take a node's view away; its mounts go when its last process does."""
    handle = _handle(layout, machine)
    if _mounted(handle):
        _run("umount", "--lazy", str(handle))


def remove_all(layout: Layout) -> None:
    """Take away what held the views, and the folders that were made to be covered."""
    folder = layout.root / "view"
    if _mounted(folder):
        _run("umount", "--lazy", str(folder))
    for covered in (*_OWN[1:], VOLUMES, VOLUMES.parent):
        with contextlib.suppress(OSError):  # somebody keeps something in it
            Path(covered).rmdir()


def _handle(layout: Layout, machine: Machine) -> Path:
    return layout.root / "view" / machine.name


def _mounted(path: Path) -> bool:
    places = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return str(path) in places


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
