"""NATS as deploy/ configures it: a real nats-server with the files of deploy/base and generated credentials."""

import asyncio
import base64
import contextlib
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import nats
from nats.aio.client import Client

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.credentials.secrets import SECRETS, SERVER_SECRET, USERS, make, secret_of
from flexinfer.local import cluster_content
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.connection import Connection
from localkube.apiserver.bootstrap import bootstrap
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.store import Store
from tests.manifests import DEPLOY
from tests.nats import binary
from tests.patience import patient
from tests.ports import free_ports
from tests.store_cluster import StoreCluster


class DeployedNats:
    """One server; `folder` has a subfolder for each Secret, as Pods mount them."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.folder, self.process, self.port = folder, process, port

    @property
    def url(self) -> str:
        """The URL for clients, with a host name that is in the certificate."""
        return f"tls://localhost:{self.port}"

    @property
    def authority(self) -> str:
        """The file of the certificate authority."""
        return str(self.folder / secret_of("tap") / "ca.crt")

    def joined(self, user: str) -> contextlib.AbstractAsyncContextManager[Connection]:
        """Connect as a component does, with the user's password from its Secret."""
        secret = self.folder / secret_of(user)
        return connection.connected(user, self.url, user, str(secret / "password"), str(secret / "ca.crt"))

    @contextlib.asynccontextmanager
    async def watched(self, user: str) -> AsyncIterator[tuple[Client, list[str]]]:
        """Connect as a user; yield the client and the list of the errors that the server reports to it."""
        errors: list[str] = []

        async def note(error: Exception) -> None:
            errors.append(str(error))

        async with self.joined(user) as trusted:  # the same options, with a client that records errors
            options = trusted.client.options
            client = await nats.connect(
                self.url,
                user=options["user"],
                password=options["password"],
                tls=options["tls"],
                inbox_prefix=f"_INBOX_{user}",
                error_cb=note,
            )
        try:
            yield client, errors
        finally:
            await client.close()


async def credentials(folder: Path) -> None:
    """Generate the Secrets and write each as a folder."""
    registry = builtin_registry()
    store = Store(registry, now=lambda: datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    bootstrap(store, registry, cluster_content.content())
    cluster = StoreCluster(store)
    await make(cluster, "cluster.local")
    for name in (SERVER_SECRET, *(secret_of(user) for user in USERS)):
        secret = await cluster.get(SECRETS, SYSTEM_NAMESPACE, name)
        (folder / name).mkdir()
        for file, content in secret.data.items():
            (folder / name / file).write_bytes(base64.b64decode(content))


def configured(folder: Path, home: Path, cluster: str, port: int) -> Path:
    """Write the configuration to `home` with paths and ports of this machine; return its file."""
    home.mkdir()
    base = DEPLOY / "base" / "nats"
    text = (base / "nats.conf").read_text()
    changes = (
        (r"/etc/nats-tls", str(folder / SERVER_SECRET)),
        (r"/data", str(home / "data")),
        (r"0\.0\.0\.0", "127.0.0.1"),
    )
    for pattern, replacement in changes:
        assert re.search(pattern, text)
        text = re.sub(pattern, replacement, text)
    text = text.replace("\nport: 4222", f"\nport: {port}").replace("http_port: 8222", "http_port: -1")
    (home / "nats.conf").write_text(text)
    (home / "users.conf").write_text((base / "users.conf").read_text())
    (home / "cluster.conf").write_text(cluster.replace("/etc/nats-tls", str(folder / SERVER_SECRET)))
    return home / "nats.conf"


def environment(folder: Path, pod: str) -> dict[str, str]:
    """Return the environment of the Pod: its name, and the password of each user."""
    passwords = {
        f"NATS_PASSWORD_{user.upper()}": (folder / secret_of(user) / "password").read_text() for user in USERS
    }
    return os.environ | passwords | {"POD_NAME": pod}


def started(config: Path, folder: Path, pod: str) -> "subprocess.Popen[bytes]":
    """Start a server."""
    home = config.parent
    words = [binary(), "--config", str(config), "--ports_file_dir", str(home)]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(words, env=environment(folder, pod), stdout=log, stderr=log)


async def listening(process: "subprocess.Popen[bytes]", home: Path) -> int:
    """Wait until a server listens; return its port."""
    ports = home / f"nats-server_{process.pid}.ports"
    async with asyncio.timeout(patient(15)):
        while not ports.exists() or not ports.read_text():
            assert process.poll() is None, (home / "log").read_text()
            await asyncio.sleep(0.01)
    listeners = json.loads(ports.read_text())
    return int((listeners.get("tls") or listeners["nats"])[0].rpartition(":")[2])


@contextlib.contextmanager
def reaped(processes: Sequence["subprocess.Popen[bytes]"]) -> Iterator[None]:
    """Kill and reap the processes when the block ends."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def single_server(folder: Path) -> AsyncIterator[DeployedNats]:
    """Run one server, as in deploy/base."""
    await credentials(folder)
    config = configured(
        folder, folder / "nats-0", (DEPLOY / "base" / "nats" / "cluster.conf").read_text(), -1
    )
    process = started(config, folder, "flexinfer-nats-0")
    with reaped([process]):
        yield DeployedNats(folder, process, await listening(process, config.parent))


@contextlib.asynccontextmanager
async def three_servers(folder: Path) -> AsyncIterator[list[DeployedNats]]:
    """Run a cluster of three servers, as in the overlay `ha`.

    Routes are ports of loopback instead of DNS names.
    """
    await credentials(folder)
    text = (DEPLOY / "overlays" / "ha" / "cluster.conf").read_text()
    ports = free_ports(6)
    routes, clients = ports[:3], ports[3:]
    for number, port in enumerate(routes):
        pattern = rf"flexinfer-nats-{number}\.flexinfer-nats-peers\.flexinfer-system\.svc:6222"
        text = re.sub(pattern, f"localhost:{port}", text)
    processes: list[subprocess.Popen[bytes]] = []
    with reaped(processes):
        for number, (port, client) in enumerate(zip(routes, clients, strict=True)):
            cluster = text.replace("port: 6222", f"port: {port}").replace("0.0.0.0", "127.0.0.1")
            config = configured(folder, folder / f"nats-{number}", cluster, client)
            processes.append(started(config, folder, f"flexinfer-nats-{number}"))
        for number, process in enumerate(processes):
            await listening(process, folder / f"nats-{number}")
        yield [DeployedNats(folder, p, port) for p, port in zip(processes, clients, strict=True)]
