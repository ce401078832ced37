"""Health: /healthz, /readyz and /version of a process, on one port.

Ready means that the replay of the state stream is complete, or that the replica is a standby. Served on
asyncio streams: three fixed responses need no web framework, and half of the components have no other use for
one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

_HEAD_BYTES = 16 * 1024
_HEAD_SECONDS = 5.0
_STATUS_TEXTS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


class Health:
    """Readiness and version of a process."""

    def __init__(self, build: str = "unknown") -> None:
        self.ready = False
        self._build = build

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- the value itself
        """Set whether /readyz succeeds."""
        self.ready = ready

    def answer(self, path: str) -> tuple[int, str]:
        """Return HTTP status and body for a path."""
        if path == "/healthz":
            return 200, "ok"
        if path == "/readyz":
            return (
                (200, "ready")
                if self.ready
                else (503, "not ready: the replay of the state stream is not complete")
            )
        if path == "/version":
            return 200, self._build
        return 404, "not found; paths are /healthz, /readyz and /version"


@contextlib.asynccontextmanager
async def served(health: Health, host: str, port: int, port_file: str = "") -> AsyncIterator[int]:
    """Serve health on host:port (0: any free port, written to port_file); yields the port.

    Raises OSError if the port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=_HEAD_SECONDS)
            _, _, target = head.partition(b" ")
            path = target.partition(b" ")[0].decode(errors="replace").partition("?")[0]
            writer.write(_response(*health.answer(path)))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_HEAD_BYTES)
    bound: int = server.sockets[0].getsockname()[1]
    if port_file:
        publish_port(port_file, bound)
    try:
        yield bound
    finally:
        server.close()


def _response(status: int, body: str) -> bytes:
    return (
        f"HTTP/1.1 {status} {_STATUS_TEXTS[status]}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


def publish_port(path: str, port: int) -> None:
    """Write a port into a file, atomically. Raises OSError."""
    target = Path(path)
    draft = target.with_name(f"{target.name}.new")
    draft.write_text(f"{port}\n")
    draft.replace(target)
