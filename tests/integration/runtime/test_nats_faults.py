"""Faults of a real nats-server that end a connection or a write: a changed password, a full disk."""

import asyncio
import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flexinfer.events import events
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.connection import Connection, NatsClosedError
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.nats.state_writer import StateStream
from flexinfer.runtime.runtime import Snapshot, Subscriptions
from tests.builders import a_model
from tests.nats import NatsServer, nats_server
from tests.patience import patient

pytestmark = pytest.mark.integration
SECONDS = patient(20)


def login(password: str) -> str:
    """Return a server's configuration with one user."""
    return f'authorization {{ users: [ {{ user: "reaper", password: "{password}" }} ] }}'


async def until(condition: object, *, poll: float = 0.02) -> None:
    """Return once the condition holds."""
    assert callable(condition)
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(poll)


async def test_a_password_that_the_server_no_longer_takes_ends_what_the_connection_was_opened_for(
    tmp_path: Path,
) -> None:
    """The next connection reads the password again."""
    file = tmp_path / "password"
    file.write_text("old")
    async with nats_server(tmp_path, login("old")) as server:
        with pytest.raises(NatsClosedError):
            async with connection.connected("reaper", server.url, "reaper", str(file)):
                server.configure(login("new"))
                await server.reload()
                async with asyncio.timeout(SECONDS):
                    await asyncio.Event().wait()
        file.write_text("new")
        async with (
            asyncio.timeout(SECONDS),
            connection.connected("reaper", server.url, "reaper", str(file)) as link,
        ):
            assert link.up


async def test_a_password_that_changes_while_nats_is_away_is_read_at_the_reconnection(tmp_path: Path) -> None:
    """The connection that was opened with the former password comes back by itself, attempts with it aside."""
    file = tmp_path / "password"
    file.write_text("old")
    async with (
        nats_server(tmp_path, login("old")) as server,
        connection.connected("reaper", server.url, "reaper", str(file)) as link,
    ):
        changes: asyncio.Queue[bool] = asyncio.Queue()
        link.notify(changes.put_nowait)
        await server.stop()
        server.configure(login("new"))
        await server.start()
        async with asyncio.timeout(SECONDS):
            assert not await changes.get()
            file.write_text("new")
            assert await changes.get()


@contextlib.contextmanager
def reaper(folder: Path, server: NatsServer) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a reaper as a process, with the address of an API server where nothing listens."""
    config = folder / "kubeconfig"
    config.write_text(
        "{current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}], users: [{name: u, user: {}}],"
        " clusters: [{name: k, cluster: {server: 'http://127.0.0.1:9'}}]}"
    )
    environment = {
        "FLEXINFER_NATS_URL": server.url,
        "FLEXINFER_NATS_USER": "reaper",
        "FLEXINFER_NATS_PASSWORD_FILE": str(folder / "password"),
        "FLEXINFER_KUBECONFIG": str(config),
        "FLEXINFER_HEALTH_PORT_FILE": str(folder / "port"),
    }
    (folder / "port").unlink(missing_ok=True)
    with (folder / "reaper.log").open("ab") as log:
        command = [sys.executable, "-m", "flexinfer.reaper"]
        process = subprocess.Popen(command, env=os.environ | environment, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def readyz(folder: Path) -> str:
    """Return what a process says of its readiness; empty while it does not listen."""
    try:
        port = int((folder / "port").read_text())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except (OSError, ValueError):
        return ""


def waits_for_the_api_alone(said: str) -> bool:
    """Return whether a process is connected to NATS, and says that the API server is all that it lacks."""
    return "API server" in said and "NATS is not connected" not in said


async def test_a_process_ends_when_its_password_changes_and_its_successor_connects_with_the_new_one(
    tmp_path: Path,
) -> None:
    """It says why, and exits with 1; the supervisor or the kubelet starts the next."""
    (tmp_path / "password").write_text("old")
    async with nats_server(tmp_path, login("old")) as server:
        with reaper(tmp_path, server) as process:
            await until(lambda: waits_for_the_api_alone(readyz(tmp_path)))
            server.configure(login("new"))
            await server.reload()
            assert await asyncio.to_thread(process.wait, SECONDS) == 1
        log = (tmp_path / "reaper.log").read_text()
        assert (
            "NATS closed the connection of reaper: 'authentication expired'" in log.lower()
            or "NATS closed" in log
        )
        assert "Traceback" not in log
        with reaper(tmp_path, server):
            await until(lambda: "NATS is not connected" in readyz(tmp_path))
            (tmp_path / "password").write_text("new")
            await until(lambda: "NATS is not connected" not in readyz(tmp_path) and readyz(tmp_path))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A store folder of 700 KiB; skips where no file system can be mounted."""
    store = tmp_path / "store"
    store.mkdir()
    options = ["-t", "tmpfs", "-o", "size=700k", "tmpfs", str(store)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("a full disk needs the right to mount a tmpfs")
    yield store
    subprocess.run(["umount", "-l", str(store)], check=True)


def fill(path: Path) -> None:
    """Write into a file until the disk is full."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 512)
    os.close(descriptor)


@contextlib.asynccontextmanager
async def joined(server: NatsServer, name: str) -> AsyncIterator[Connection]:
    """Connect without a login."""
    async with connection.connected(name, server.url, "", "") as link:
        yield link


async def test_a_full_disk_is_named_and_heals_without_a_hand_once_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    """The server keeps the error of its write; the watcher makes the stream again, and readers replay it."""
    problems: list[str | None] = []

    def report(cause: str, problem: str | None, since: float | None = None) -> None:
        problems.append(problem)

    model = events.ModelObserved(model=a_model("a", version=1, source="hf://" + "x" * 200_000))
    async with (
        nats_server(tmp_path, "jetstream { max_file_store: 10GB }") as server,
        joined(server, "watcher") as link,
        joined(server, "bootstrap") as bootstrap,
        joined(server, "placer") as other,
    ):
        stream = StateStream(link, bootstrap, report_problem=report)
        await stream.open()
        await stream.watermark()
        deliveries = NatsBus(other).deliveries(Subscriptions())
        async with asyncio.timeout(SECONDS):
            assert await anext(deliveries) == Snapshot([])
        fill(small_disk / "filled")
        with pytest.raises(connection.NatsUnavailableError):
            await stream.publish(model)
        (small_disk / "filled").unlink()
        with pytest.raises(connection.NatsUnavailableError):
            await stream.watermark()
        async with asyncio.timeout(SECONDS):
            await stream.open()
        assert any("no space left on device" in problem for problem in problems if problem)
        await stream.publish(model)
        await stream.watermark()
        assert problems[-1] is None
        async with asyncio.timeout(SECONDS):
            async for delivery in deliveries:
                if isinstance(delivery, Snapshot) and delivery.observations:
                    break
