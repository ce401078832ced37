"""The breaker: a line of requests for one Model, let go when it is ready.

A sleeping Model is capacity 0, waking it is raising it. Every change of state is synchronous, so a request that is cancelled at any moment leaves no
trace. The line is bounded in number and in bytes; who does not fit is told at once.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

MOST_WAITING = 512
MOST_BYTES = 64 << 20
UNLIMITED = 1 << 30


class LineFullError(Exception):
    """No place in the line."""


class Breaker:
    """Places for one Model; `address` is where those inside go."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._capacity = 0
        self._bytes = 0
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._line)

    def resize(self, capacity: int) -> None:
        """Let in up to so many; 0 holds everyone."""
        self._capacity = capacity
        self._admit()

    @contextlib.asynccontextmanager
    async def place(self, size: int) -> AsyncIterator[None]:
        """Wait for a place and hold it; LineFullError when the line is full."""
        await self._enter(size)
        try:
            yield
        finally:
            self.in_flight -= 1
            self._admit()

    async def _enter(self, size: int) -> None:
        if not self._line and self.in_flight < self._capacity:
            self.in_flight += 1
            return
        if len(self._line) >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            raise LineFullError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._bytes += size
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.in_flight -= 1
                self._admit()
            raise
        finally:
            self._bytes -= size
            with contextlib.suppress(ValueError):
                self._line.remove(turn)

    def _admit(self) -> None:
        while self._line and self.in_flight < self._capacity:
            turn = self._line.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
