"""The network of a test cluster: one namespace a node, joined by a bridge in the first. Nothing leaves the machine."""

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
    """Return what runs a command in a node's namespace; `ip netns exec` would hide the control groups."""
    return ("nsenter", f"--net={_NAMESPACES / machine.namespace}")


def exists(machine: Machine) -> bool:
    """Tell whether a node's namespace is there."""
    return (_NAMESPACES / machine.namespace).exists()


@contextlib.contextmanager
def inside(machine: Machine) -> Iterator[None]:
    """Be in a node's network for the length of the block: this thread, and those that it starts."""
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        _enter(_NAMESPACES / machine.namespace)
        try:
            yield
        finally:
            _set(home.fileno())


def _enter(namespace: Path) -> None:
    with namespace.open("rb") as file:
        _set(file.fileno())


def _set(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _NEW_NET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def make_first() -> None:
    """Make the first node's namespace, with the bridge that carries its address; all that is there stays."""
    if not exists(FIRST):
        _run("ip", "netns", "add", FIRST.namespace)
    _inside(FIRST, "ip", "link", "set", "lo", "up")
    if not _there(FIRST, LAN):
        _inside(FIRST, "ip", "link", "add", LAN, "type", "bridge")
        _inside(FIRST, "ip", "link", "set", LAN, "up")
        _inside(FIRST, "ip", "addr", "add", f"{FIRST.address}/{LAN_BITS}", "dev", LAN)
        _hold_up()
        _inside(FIRST, "ip", "route", "add", "default", "dev", LAN)
    _forward(FIRST)


def _hold_up() -> None:
    """Give the bridge a port: without one it has no carrier, and its routes are dead."""
    _inside(FIRST, "ip", "link", "add", "held0", "type", "veth", "peer", "name", "held1")
    for port in ("held0", "held1"):
        _inside(FIRST, "ip", "link", "set", port, "up")
    _inside(FIRST, "ip", "link", "set", "held0", "master", LAN)


def join(machine: Machine) -> None:
    """Make another node's namespace and join it to the first's bridge."""
    if not exists(machine):
        _run("ip", "netns", "add", machine.namespace)
    _inside(machine, "ip", "link", "set", "lo", "up")
    if not _there(machine, LAN):
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


def part(machine: Machine) -> None:
    """Cut a node off, as a pulled cable does."""
    _inside(FIRST, "ip", "link", "set", f"port{machine.number}", "down")


def rejoin(machine: Machine) -> None:
    """Plug the cable in again; a route of a link that was down has to be made anew."""
    _inside(FIRST, "ip", "link", "set", f"port{machine.number}", "up")


def remove(machine: Machine) -> None:
    """Remove a node's namespace, and with it all that it held."""
    if exists(machine):
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "netns", "del", machine.namespace)
    if machine != FIRST and exists(FIRST):
        with contextlib.suppress(subprocess.CalledProcessError):
            _inside(FIRST, "ip", "route", "del", machine.pods)


def _forward(machine: Machine) -> None:
    _inside(machine, "sysctl", "-qw", "net.ipv4.ip_forward=1")


def _there(machine: Machine, device: str) -> bool:
    words = (*command(machine), "ip", "link", "show", device)
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _inside(machine: Machine, *words: str) -> None:
    _run(*command(machine), *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
