"""Pod IPs: one loopback address per Pod, out of 127.64.0.0/10, that no other instance on this machine uses.

Linux answers on all of 127.0.0.0/8 without any set-up. An instance begins at an address derived from its state folder. While an address
is in use, an abstract Unix socket named after it is held, so that two instances cannot share it; an address on which another program
listens already is skipped.
"""

import hashlib
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

RANGE = ipaddress.IPv4Network("127.64.0.0/10")
_SOCKETS = Path("/proc/net/tcp")
_LISTEN = "0A"


class NoAddressError(Exception):
    """Every address of the range is in use."""


class PodIPAllocator:
    """The addresses of this node's Pods. `seed` determines the first one."""

    def __init__(self, seed: str) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self._next = int.from_bytes(digest[:4], "big") % RANGE.num_addresses
        self._guards: dict[str, socket.socket] = {}

    def allocate(self) -> str:
        """Return an unused address, and hold it. Raises NoAddressError."""
        busy = listening()
        for address in self._candidates():
            if address not in busy and self._guard(address):
                return address
        raise NoAddressError(f"no free address in {RANGE}")

    def reserve(self, address: str) -> None:
        """Hold the address of a restored Pod, whose engine may listen on it already."""
        self._guard(address)

    def release(self, address: str) -> None:
        """Free an address; it is allocated again only after all others."""
        guard = self._guards.pop(address, None)
        if guard is not None:
            guard.close()

    def close(self) -> None:
        """Free all addresses."""
        for address in list(self._guards):
            self.release(address)

    def _candidates(self) -> Iterator[str]:
        for _ in range(RANGE.num_addresses):
            address = RANGE[self._next]
            self._next = (self._next + 1) % RANGE.num_addresses
            if address.packed[3] not in (0, 255):
                yield str(address)

    def _guard(self, address: str) -> bool:
        if address in self._guards:
            return False
        guard = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            guard.bind(f"\0localkube-pod-{address}")
        except OSError:
            guard.close()
            return False
        self._guards[address] = guard
        return True


def listening(table: Path = _SOCKETS) -> frozenset[str]:
    """Return the addresses on which a program of this machine listens for TCP."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return frozenset()
    rows = (line.split() for line in lines)
    return frozenset(_address(row[1]) for row in rows if row[3] == _LISTEN)


def _address(local: str) -> str:
    """Read `0100007F:1F90`: the kernel prints the address in the machine's byte order."""
    return socket.inet_ntoa(int(local.partition(":")[0], 16).to_bytes(4, "little"))
