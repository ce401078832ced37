"""The mount namespace of a node: the folders that kubelet and its helpers write are private and empty.

So two nodes do not conflict, no mount is visible outside, and all mounts disappear with the namespace.
"""

import contextlib
import subprocess
from pathlib import Path

from tests.node import network
from tests.node.layout import Layout, Machine

VOLUMES = Path("/var/lib/flexinfer/volumes")
"""The folder of PVCs in deploy/overlays/dev; on a test node a folder of the test cluster is mounted there."""
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
"""Private first: a mount that is still a peer of the machine's mount would be visible there."""


def command(layout: Layout, machine: Machine) -> tuple[str, ...]:
    """Return the prefix that runs a command on a node: in its network and mount namespaces."""
    return (*network.command(machine), f"--mount={_handle(layout, machine)}")


def make(layout: Layout, machine: Machine) -> None:
    """Create the mount namespace of a node unless it exists."""
    handle = _handle(layout, machine)
    if _mounted(handle):
        return
    handle.parent.mkdir(parents=True, exist_ok=True)
    if not _mounted(handle.parent):  # the mount that keeps a mount namespace must be private
        _run("mount", "--bind", str(handle.parent), str(handle.parent))
        _run("mount", "--make-private", str(handle.parent))
    handle.touch()
    variables = ("env", f"VOLUMES={VOLUMES}", f"CLAIMS={layout.claims(machine)}")
    _run(
        *variables, "unshare", f"--mount={handle}", "--propagation", "private", "sh", "-c", _MAKE, "sh", *_OWN
    )


def remove(layout: Layout, machine: Machine) -> None:
    """Remove the mount namespace of a node; its mounts disappear with its last process."""
    handle = _handle(layout, machine)
    if _mounted(handle):
        _run("umount", "--lazy", str(handle))


def remove_all(layout: Layout) -> None:
    """Remove the mount of all namespaces, and the folders that were created as mount points."""
    folder = layout.root / "view"
    if _mounted(folder):
        _run("umount", "--lazy", str(folder))
    for covered in (*_OWN[1:], VOLUMES, VOLUMES.parent):
        with contextlib.suppress(OSError):  # it is not empty
            Path(covered).rmdir()


def _handle(layout: Layout, machine: Machine) -> Path:
    return layout.root / "view" / machine.name


def _mounted(path: Path) -> bool:
    places = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return str(path) in places


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
