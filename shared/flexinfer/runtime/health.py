"""Health: /healthz, /readyz and /version of a process, on one port.

Ready means "I have seen everything": the replay of the bus has ended. It is served by hand on asyncio streams: three
fixed answers need no web framework, and half of the services have no other use for one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

_LIMIT = 16 * 1024


class Health:
    """What a process says of itself."""

    def __init__(self, build: str = "unknown") -> None:
        self.ready = False
        self._build = build

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- the answer itself
        """Say whether this process may be asked to do its work."""
        self.ready = ready

    def answer(self, path: str) -> tuple[int, str]:
        """Return status and body for a path."""
        if path == "/healthz":
            return 200, "ok"
        if path == "/readyz":
            return (200, "ready") if self.ready else (503, "not ready: has not seen everything yet")
        if path == "/version":
            return 200, self._build
        return 404, "there is /healthz, /readyz and /version"


@contextlib.asynccontextmanager
async def served(health: Health, host: str, port: int, port_file: str = "") -> AsyncIterator[int]:
    """Serve health on host:port (0: any free one, written to port_file); yields the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=5)
            _, _, rest = head.partition(b" ")
            status, body = health.answer(rest.partition(b" ")[0].decode(errors="replace").partition("?")[0])
            text = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[status]
            writer.write(
                f"HTTP/1.1 {status} {text}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n\r\n{body}".encode()
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_LIMIT)
    bound: int = server.sockets[0].getsockname()[1]
    if port_file:
        publish_port(port_file, bound)
    try:
        yield bound
    finally:
        server.close()


def publish_port(path: str, port: int) -> None:
    """Write a port where others look for it, whole or not at all."""
    target = Path(path)
    draft = target.with_name(f"{target.name}.new")
    draft.write_text(f"{port}\n")
    draft.replace(target)
