"""Ports of loopback for servers that must know their own before they listen, or that come back on it."""

import contextlib
import functools
import itertools
import os
import random
import socket
from collections.abc import Iterator

_FIRST, _PER_WORKER, _WORKERS = 20_000, 2_000, 6
"""Below the ports that Linux gives to connections (32768 and up), any of which another process may take at any time."""


def free_ports(count: int) -> list[int]:
    """Return different ports that nothing uses, and that no other test is given meanwhile: each worker has its own, by turns."""
    return list(itertools.islice(filter(_is_free, _by_turns()), count))


def free_port() -> int:
    """Return one such port."""
    return free_ports(1)[0]


@functools.cache
def _by_turns() -> Iterator[int]:
    """Return the ports of this worker of pytest-xdist, or of the first one without it: again and again, in a random order."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first = _FIRST + worker * _PER_WORKER
    return itertools.cycle(random.sample(range(first, first + _PER_WORKER), _PER_WORKER))


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False
