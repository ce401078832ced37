"""A mailbox: what callbacks put in, and one reader takes out in the same order.

Every message of NATS passes several of them. An asyncio.Queue also serves several readers and bounds its length, and
costs twice as much for each message.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue without a bound, and with one reader."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._awaited: asyncio.Future[None] | None = None

    def put(self, item: T) -> None:
        """Add an item. Never blocks."""
        self._items.append(item)
        self._wake()

    async def get(self) -> T:
        """Return the next item, once there is one."""
        if not self._items:
            await self.arrival()
        return self._items.popleft()

    async def batch(self, wait: float | None) -> list[T]:
        """Return everything that has arrived, after at most `wait` seconds."""
        if wait == 0:
            await asyncio.sleep(0)
        elif not self._items:
            await self.arrival(wait)
        batch = [*self._items]
        self._items.clear()
        return batch

    async def arrival(self, wait: float | None = None) -> None:
        """Return when an item arrives, or after `wait` seconds: by a timer, since a timeout would be a cancellation at each wait."""
        loop = asyncio.get_running_loop()
        self._awaited = loop.create_future()
        timer = loop.call_later(wait, self._wake) if wait is not None else None
        try:
            await self._awaited
        finally:
            self._awaited = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)
