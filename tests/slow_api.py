"""An API server that answers only Leases and watches until it is asked to answer everything."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from flexinfer.runtime.kubernetes.client import CALLS_AT_ONCE

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


class SlowServer:
    """Answers Leases and watches at once, and everything else when `release` is set; keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = asyncio.Event()
        self.waiting = 0
        self.most = 0
        self.full = asyncio.Event()
        self.renewals = 0
        self.connections: set[asyncio.Task[object]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        with (
            contextlib.closing(writer),
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError),
        ):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(length or 0))
                path = head.split()[1].partition("?")[0]
                self.renewals += "/leases" in path and head.startswith("PUT")
                if "/leases" not in path and "watch=true" not in head:
                    await self._wait(path)
                body = json.dumps(
                    {"metadata": {"name": path.rpartition("/")[2], "namespace": "default"}}
                ).encode()
                writer.write(_HEAD % (len(body), body))

    async def _wait(self, path: str) -> None:
        self.asked.append(path.rpartition("/")[2])
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.waiting == CALLS_AT_ONCE:
            self.full.set()
        await self.release.wait()
        self.waiting -= 1


@contextlib.asynccontextmanager
async def slow_server(folder: Path) -> AsyncIterator[tuple[SlowServer, str]]:
    """Serve it on a free port; yields it and the path of a kubeconfig."""
    slow = SlowServer()
    server = await asyncio.start_server(slow.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = folder / "kubeconfig"
    config.write_text(
        "{current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}], users: [{name: u, user: {}}],"
        f" clusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]}}"
    )
    try:
        yield slow, str(config)
    finally:
        server.close()
        for task in slow.connections:
            task.cancel()
        await asyncio.gather(*slow.connections)
