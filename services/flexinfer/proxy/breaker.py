"""The breaker: limits how many requests of one Model are in flight, and queues the others.

A Model that is not ready has capacity 0; when it becomes ready, its capacity is raised and the queue drains
in order. Every change of state is synchronous, so a request that is cancelled at any moment leaves nothing
behind. The queue is bounded in number and in bytes; a request that does not fit is rejected at once.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

MAX_QUEUED = 512
MAX_QUEUED_BYTES = 64 << 20
UNLIMITED = 1 << 30
Admission: TypeAlias = "asyncio.Future[bool]"
"""Done when a request may continue: True with a slot, False without one, to be checked again."""


class QueueFullError(Exception):
    """The queue has no room for the request; the message names the limit."""


class Breaker:
    """The slots and the queue of one Model; `most_bytes` is the size of all bodies that may be queued."""

    def __init__(self, most_bytes: int = MAX_QUEUED_BYTES) -> None:
        self._most_bytes = most_bytes
        self.in_flight = 0
        self._capacity = 0
        self._bytes = 0
        self._queue: OrderedDict[Admission, int] = OrderedDict()  # -> size of its body, in bytes

    @property
    def queued(self) -> int:
        """How many requests are queued."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether a request is in flight or queued."""
        return bool(self.in_flight or self._queue)

    def resize(self, capacity: int) -> None:
        """Allow so many requests in flight, and admit queued ones as far as they fit."""
        self._capacity = capacity
        self._admit()

    def release_queue(self) -> None:
        """Take every request out of the queue without a slot: its caller checks again what to do with it."""
        while self._queue:
            self._pop(admitted=False)

    @contextlib.contextmanager
    def slot(self, size: int) -> Iterator[Admission]:
        """Take a slot, or join the queue with a body of `size` bytes, until the block ends.

        Yields the admission to wait for; it is done already when a slot is free. Raises QueueFullError.
        """
        admission = self._enter(size)
        try:
            yield admission
        finally:
            self._leave(admission)

    def _enter(self, size: int) -> Admission:
        admission: Admission = asyncio.get_running_loop().create_future()
        if not self._queue and self.in_flight < self._capacity:
            self.in_flight += 1
            admission.set_result(True)
            return admission
        if len(self._queue) >= MAX_QUEUED:
            raise QueueFullError(f"{MAX_QUEUED} requests")
        if self._bytes + size > self._most_bytes:
            raise QueueFullError(f"{self._most_bytes >> 20} MiB of request bodies")
        self._queue[admission] = size
        self._bytes += size
        return admission

    def _leave(self, admission: Admission) -> None:
        if admission in self._queue:
            self._bytes -= self._queue.pop(admission)
        elif not admission.cancelled() and admission.result():
            self.in_flight -= 1
            self._admit()

    def _admit(self) -> None:
        while self._queue and self.in_flight < self._capacity:
            self.in_flight += self._pop(admitted=True)

    def _pop(self, *, admitted: bool) -> bool:
        """Take the first request out of the queue; returns False when it was cancelled meanwhile."""
        admission, size = self._queue.popitem(last=False)
        self._bytes -= size
        if admission.done():
            return False
        admission.set_result(admitted)
        return True
