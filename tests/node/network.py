"""The network of a test cluster: one namespace for each node, joined by a bridge in the first.

No traffic leaves the machine.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.node.layout import FIRST, LAN, LAN_BITS, Machine

_NEW_NET = 0x40000000
_NAMESPACES = Path("/run/netns")


def command(machine: Machine) -> tuple[str, ...]:
    """Return the prefix that runs a command in the namespace of a node.

    `ip netns exec` would hide the control groups.
    """
    return ("nsenter", f"--net={_NAMESPACES / machine.namespace}")


def exists(machine: Machine) -> bool:
    """Return whether the namespace of a node exists."""
    return (_NAMESPACES / machine.namespace).exists()


@contextlib.contextmanager
def inside(machine: Machine) -> Iterator[None]:
    """Put this thread, and those that it starts, in the network of a node for the duration of the block."""
    with Path("/proc/thread-self/ns/net").open("rb") as original:
        _enter(_NAMESPACES / machine.namespace)
        try:
            yield
        finally:
            _set(original.fileno())


def _enter(namespace: Path) -> None:
    with namespace.open("rb") as file:
        _set(file.fileno())


def _set(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _NEW_NET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def make_first() -> None:
    """Create the namespace of the first node, with the bridge that has its address, unless they exist."""
    if not exists(FIRST):
        _run("ip", "netns", "add", FIRST.namespace)
    _inside(FIRST, "ip", "link", "set", "lo", "up")
    if not _exists(FIRST, LAN):
        _inside(FIRST, "ip", "link", "add", LAN, "type", "bridge")
        _inside(FIRST, "ip", "link", "set", LAN, "up")
        _inside(FIRST, "ip", "addr", "add", f"{FIRST.address}/{LAN_BITS}", "dev", LAN)
        _hold_up()
        _inside(FIRST, "ip", "route", "add", "default", "dev", LAN)
    _forward(FIRST)


def _hold_up() -> None:
    """Add a port to the bridge: without one it has no carrier, and its routes are unusable."""
    _inside(FIRST, "ip", "link", "add", "held0", "type", "veth", "peer", "name", "held1")
    for port in ("held0", "held1"):
        _inside(FIRST, "ip", "link", "set", port, "up")
    _inside(FIRST, "ip", "link", "set", "held0", "master", LAN)


def join(machine: Machine) -> None:
    """Create the namespace of another node and connect it to the bridge of the first."""
    if not exists(machine):
        _run("ip", "netns", "add", machine.namespace)
    _inside(machine, "ip", "link", "set", "lo", "up")
    if not _exists(machine, LAN):
        port = f"port{machine.number}"
        peer = ("peer", "name", LAN, "netns", machine.namespace)
        _inside(FIRST, "ip", "link", "add", port, "type", "veth", *peer)
        _inside(FIRST, "ip", "link", "set", port, "master", LAN, "up")
        _inside(machine, "ip", "addr", "add", f"{machine.address}/{LAN_BITS}", "dev", LAN)
        _inside(machine, "ip", "link", "set", LAN, "up")
        _inside(machine, "ip", "route", "add", "default", "via", FIRST.address)
        _inside(machine, "ip", "route", "add", FIRST.pods, "via", FIRST.address)
        _inside(FIRST, "ip", "route", "add", machine.pods, "via", machine.address)
    _forward(machine)


def disconnect(machine: Machine) -> None:
    """Disconnect a node, as a pulled cable does."""
    _inside(FIRST, "ip", "link", "set", f"port{machine.number}", "down")


def reconnect(machine: Machine) -> None:
    """Connect a node again."""
    _inside(FIRST, "ip", "link", "set", f"port{machine.number}", "up")


def remove(machine: Machine) -> None:
    """Remove the namespace of a node with all its devices."""
    if exists(machine):
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "netns", "del", machine.namespace)
    if machine != FIRST and exists(FIRST):
        with contextlib.suppress(subprocess.CalledProcessError):
            _inside(FIRST, "ip", "route", "del", machine.pods)


def _forward(machine: Machine) -> None:
    _inside(machine, "sysctl", "-qw", "net.ipv4.ip_forward=1")


def _exists(machine: Machine, device: str) -> bool:
    words = (*command(machine), "ip", "link", "show", device)
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _inside(machine: Machine, *words: str) -> None:
    _run(*command(machine), *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
