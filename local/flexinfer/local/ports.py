"""Ports: the ports of an instance, chosen so that several instances on one machine never share one."""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

HOST = "127.0.0.1"
PREFERRED_PORTS = {"proxy": 7400, "api": 7401, "nats": 7402, "node": 7403}
PLANE_PORTS = {"etcd": 7404, "etcd_peer": 7405, "etcd_health": 7406, "manager": 7407, "scheduler": 7408}
_STRIDE, _TRIES = 10, 400


class PortError(Exception):
    """No port is free."""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The ports that stay the same over restarts, since clients know them. Those of a real control plane are 0 without one."""

    proxy: int
    api: int
    nats: int
    node: int
    etcd: int = 0
    etcd_peer: int = 0
    etcd_health: int = 0
    manager: int = 0
    scheduler: int = 0


def chosen(previous: Ports | None, own_ports: frozenset[str], *, plane: bool, proxy: int = 0) -> Ports:
    """Return free ports: the previous ones unless other programs use them; `own_ports` names those that this instance itself listens on.

    `proxy` is the port that the user wants for the proxy; 0: none in particular. Raises PortError.
    """
    numbers: dict[str, int] = {}
    for name, preferred_port in (PREFERRED_PORTS | (PLANE_PORTS if plane else {})).items():
        previous_port: int = getattr(previous, name) if previous else 0
        requested_port = proxy if name == "proxy" else 0
        if (
            previous_port
            and requested_port in (0, previous_port)
            and (name in own_ports or not _answers(previous_port))
        ):
            numbers[name] = previous_port
        else:
            numbers[name] = _free(requested_port) if requested_port else _free_port(preferred_port)
    return Ports(**numbers)


def _free(port: int) -> int:
    """Return a port that the user wants. Raises PortError if it is in use."""
    if _answers(port):
        raise PortError(
            f"port {port}, which FLEXINFER_PROXY_PORT names, is in use: choose another one, or unset it"
        )
    return port


def _free_port(preferred_port: int) -> int:
    """Return the preferred port, or the next free one in steps of _STRIDE. Raises PortError."""
    for port in range(preferred_port, preferred_port + _STRIDE * _TRIES, _STRIDE):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise PortError(f"no free port from {preferred_port} on in steps of {_STRIDE}")


def _answers(port: int) -> bool:
    """Return whether a program listens on a port; lingering connections of an earlier run do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return True
    return False


@contextlib.contextmanager
def choosing() -> Iterator[None]:
    """Keep other processes of this user from choosing ports inside the block."""
    path = Path(tempfile.gettempdir()) / f"flexinfer-ports-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reserved(ports: Ports) -> Iterator[None]:
    """Keep other instances from choosing these ports while ours are down for a moment.

    A bound socket that does not listen: servers, which set SO_REUSEADDR, may bind beside it; `_free_port`, which does not, may not.
    """
    with contextlib.ExitStack() as stack:
        for port in filter(None, msgspec.structs.astuple(ports)):
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                holder.bind((HOST, port))
        yield
