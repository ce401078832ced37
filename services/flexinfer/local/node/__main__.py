"""The local node as a process.

SIGTERM ends it and leaves the Pods' processes running, for its successor to take over; SIGUSR1 stops those first.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from flexinfer.local.api import certificates
from flexinfer.local.node import devices, registration
from flexinfer.local.node.addresses import Addresses
from flexinfer.local.node.backoff import BackOff
from flexinfer.local.node.claims import LocalClaims
from flexinfer.local.node.client import Client, connected
from flexinfer.local.node.devices import Devices
from flexinfer.local.node.events import Events
from flexinfer.local.node.host import Host, Layout
from flexinfer.local.node.kubelet import Kubelet
from flexinfer.local.node.records import Records, boot_id
from flexinfer.local.node.server import application
from flexinfer.local.node.status import HOST

_CERTIFICATE = "node"

log = logging.getLogger("flexinfer.node")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is started with."""

    state: Path
    name: str
    kubeconfig: str
    volumes_kubeconfig: str
    port: int
    certificates: Path
    back_off: float
    resources: dict[str, int]


def settings(arguments: list[str]) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.local.node", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for everything that the node keeps")
    parser.add_argument("--name", default="local", help="the Node's name (default: %(default)s)")
    parser.add_argument(
        "--kubeconfig", default=os.environ.get("KUBECONFIG", ""), help="how to reach the API server"
    )
    parser.add_argument(
        "--volumes-kubeconfig", help="as whom to make volumes, which no node may (default: as this node)"
    )
    parser.add_argument("--port", type=int, default=0, help="of its own endpoint (default: any)")
    parser.add_argument(
        "--certificates",
        type=Path,
        help="folder with the authority that the API server trusts, and this node's certificate (default: STATE/certificates)",
    )
    parser.add_argument(
        "--back-off",
        type=float,
        default=10.0,
        help="seconds before the second restart of a container (default: 10)",
    )
    parser.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="an extended resource to offer in place of the GPUs found, such as nvidia.com/gpu=2",
    )
    given = parser.parse_args(arguments)
    pairs = [text.partition("=") for text in given.resource]
    return Settings(
        state=given.state.absolute(),
        name=given.name,
        kubeconfig=given.kubeconfig,
        volumes_kubeconfig=given.volumes_kubeconfig or given.kubeconfig,
        port=given.port,
        certificates=given.certificates or given.state.absolute() / "certificates",
        back_off=given.back_off,
        resources={name: int(number) for name, _, number in pairs} or devices.found(),
    )


@contextlib.asynccontextmanager
async def host_of(given: Settings) -> AsyncIterator[Host]:
    """Open what all Pods of the node share."""
    layout = Layout(given.state)
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        connected(given.kubeconfig) as client,
        connected(given.volumes_kubeconfig) as provisioner,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):
        with contextlib.closing(Addresses(str(given.state))) as addresses:
            claims = LocalClaims(provisioner, layout.claims, given.name)
            yield _host(given, layout, client, claims, session, addresses)


def _host(
    given: Settings,
    layout: Layout,
    client: Client,
    claims: LocalClaims,
    session: aiohttp.ClientSession,
    addresses: Addresses,
) -> Host:
    return Host(
        name=given.name,
        layout=layout,
        client=client,
        session=session,
        addresses=addresses,
        devices=Devices(given.resources),
        claims=claims,
        events=Events(client, given.name),
        records=Records(layout.records),
        back_off=BackOff(given.back_off),
        boot=boot_id(),
    )


async def serve(given: Settings) -> None:
    """Run the node until a signal ends it."""
    leave, stop = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number, event in ((signal.SIGTERM, leave), (signal.SIGINT, leave), (signal.SIGUSR1, stop)):
        loop.add_signal_handler(number, event.set)
    async with host_of(given) as host:
        kubelet = Kubelet(host)
        async with asyncio.TaskGroup() as tasks, endpoint(given, host, kubelet) as port:
            jobs = [
                tasks.create_task(host.events.run()),
                tasks.create_task(host.claims.run()),
                tasks.create_task(kubelet.run()),
                tasks.create_task(_register(host.client, given, port)),
            ]
            await _either(leave, stop)
            if stop.is_set():
                await kubelet.end_all()
            for job in jobs:
                job.cancel()


@contextlib.asynccontextmanager
async def endpoint(given: Settings, host: Host, kubelet: Kubelet) -> AsyncIterator[int]:
    """Listen on the node's own endpoint; yields its port."""
    app = application(kubelet, host.layout, await host.client.bearer())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner,
            HOST,
            given.port,
            ssl_context=certificates.server_context(given.certificates, _CERTIFICATE),
        )
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _register(client: Client, given: Settings, port: int) -> None:
    await registration.register(client, given.name, port, given.resources)
    log.info("node %s is registered; logs on port %d", given.name, port)
    await registration.beat(client, given.name, port, given.resources)


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def boot() -> None:
    """Run the node of the command line."""
    if sys.platform != "linux":
        sys.exit("the local node runs on Linux only")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    given = settings(sys.argv[1:])
    given.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(serve(given))


if __name__ == "__main__":
    boot()
