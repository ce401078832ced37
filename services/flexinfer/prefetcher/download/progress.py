"""Progress of a download: counted here, and served as JSON on a port of the Pod.

Any request gets the answer, which names bytes and files and nothing secret.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
WINDOW = 10.0
"""Seconds over which the rate is measured."""
_REQUEST_SECONDS, _REQUEST_LIMIT = 5.0, 8192


class Progress:
    """What has been downloaded. Times are seconds of a monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.total = 0
        self.done = 0
        self.file = ""
        self.moved = clock()
        """When the last byte came."""
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, total: int, done: int) -> None:
        """Set the bytes in all, and those that are there already."""
        self.total, self.done, self.moved = total, done, self._clock()
        self._samples.clear()
        self._samples.append((self.moved, done))

    def add(self, size: int, file: str) -> None:
        """Count bytes that came; negative where some are discarded."""
        now = self._clock()
        self.done, self.file, self.moved = self.done + size, file, now
        if now - self._samples[-1][0] >= 1.0:
            self._samples.append((now, self.done))
        while len(self._samples) > 1 and now - self._samples[0][0] > WINDOW:
            self._samples.popleft()

    def silent(self) -> float:
        """Return for how long no byte has come while some are missing, in seconds."""
        return self._clock() - self.moved if self.done < self.total else 0.0

    @property
    def rate(self) -> float:
        """Bytes per second, over the last seconds."""
        then, before = self._samples[0] if self._samples else (self._clock(), self.done)
        return (self.done - before) / max(1.0, self._clock() - then)

    def answer(self) -> dict[str, int | str]:
        """Return the progress as it is served."""
        return {
            "bytes": min(self.done, self.total),
            "totalBytes": self.total,
            "bytesPerSecond": int(self.rate),
            "file": self.file,
        }


@contextlib.asynccontextmanager
async def served(progress: Progress, host: str, port: int) -> AsyncIterator[int]:
    """Serve a progress; yields the port. A port that is taken costs the progress, not the download: yields 0."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(_REQUEST_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_response(progress))
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(reply, host, port, limit=_REQUEST_LIMIT)
    except OSError:
        yield 0
        return
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def _response(progress: Progress) -> bytes:
    body = json.dumps(progress.answer()).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
