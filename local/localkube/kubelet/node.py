"""The node as a process: registration, heartbeat, the HTTPS endpoint, and the kubelet with its Pods.

SIGTERM ends it and leaves the Pods' processes running, for the next process to adopt; SIGUSR1 stops those first. SIGUSR2 stops them and ends nothing:
the node reports that none runs, to who then stops it.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from localkube import tls
from localkube.files import keep_rotated
from localkube.kubelet import node_registration
from localkube.kubelet.backoff import BackOff
from localkube.kubelet.checkpoint import CheckpointManager, boot_id
from localkube.kubelet.client import Client, Object, connected
from localkube.kubelet.device_manager import DeviceManager, Devices
from localkube.kubelet.event_recorder import EventRecorder
from localkube.kubelet.image_runtimes import ImageRuntimes
from localkube.kubelet.kubelet import Kubelet
from localkube.kubelet.local_volumes import STORAGE_CLASS, LocalVolumeProvisioner, VolumeFolders
from localkube.kubelet.node_context import Layout, NodeContext
from localkube.kubelet.node_registration import NodeIdentity
from localkube.kubelet.pod_ips import PodIPAllocator
from localkube.kubelet.pod_status import HOST
from localkube.kubelet.server import application
from localkube.kubelet.volume_mounts import VARIABLE
from localkube.tls import TlsFiles

log = logging.getLogger("localkube.kubelet")


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a node.

    `state` is the folder of everything that it keeps, `images` says which program runs which image, and PVCs of `storage_class` are
    folders below `state`, or below `shared_volumes`, which every node of this machine then reaches. `volumes_kubeconfig` is used to write
    volumes, which a real API server does not permit to nodes. `back_off` is in seconds before the second restart of a container. `resources`
    are the devices of extended resources such as `nvidia.com/gpu`, by id; a Pod whose `devices_annotation` names some of them, separated by
    commas, gets these. Each device is offered `device_replicas` times. `labels` are the Node's own. `port_file` is written once the
    endpoint listens. Without `tls` the endpoint of logs is plain HTTP, as the API server's must be then.
    """

    state: Path
    name: str = "local"
    kubeconfig: str
    volumes_kubeconfig: str = ""
    port: int = 0
    tls: TlsFiles | None = None
    back_off: float = 10.0
    port_file: Path | None = None
    resources: Devices = {}
    device_replicas: int = 1
    labels: Mapping[str, str] = {}
    shared_volumes: Path | None = None
    images: ImageRuntimes = ImageRuntimes()
    storage_class: Object = msgspec.field(default_factory=lambda: STORAGE_CLASS)
    mounts_variable: str = VARIABLE
    devices_annotation: str = "localkube/devices"


def run(options: NodeOptions) -> None:
    """Run the node until a signal ends it: SIGUSR1 stops its Pods first, SIGUSR2 alone."""
    asyncio.run(_until_a_signal(options))


async def _until_a_signal(options: NodeOptions) -> None:
    leave, stop, rest = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number, event in (
        (signal.SIGTERM, leave),
        (signal.SIGINT, leave),
        (signal.SIGUSR1, stop),
        (signal.SIGUSR2, rest),
    ):
        loop.add_signal_handler(number, event.set)
    await serve(options, leave, stop, rest)


async def serve(options: NodeOptions, leave: asyncio.Event, stop: asyncio.Event, rest: asyncio.Event) -> None:
    """Run the node until `leave`, which leaves its Pods running, or `stop`, which stops them first; `rest` stops them, and the node runs on."""
    if sys.platform != "linux":
        sys.exit("the local node runs on Linux only")
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with _node_context(options) as node:
        kubelet = Kubelet(node)
        async with asyncio.TaskGroup() as tasks, _endpoint(options, node, kubelet) as port:
            jobs = [
                tasks.create_task(node.events.run()),
                tasks.create_task(node.claims.run()),
                tasks.create_task(node.checkpoints.run()),
                tasks.create_task(keep_rotated(node.layout.container_logs)),
                tasks.create_task(kubelet.run()),
                tasks.create_task(_register(node.client, options, port)),
            ]
            await _either(leave, stop, rest)
            if rest.is_set() and not leave.is_set():
                await kubelet.stop_all()
                await _either(leave, stop)
            if stop.is_set():
                await kubelet.stop_all()
            for job in jobs:
                job.cancel()


@contextlib.asynccontextmanager
async def _node_context(options: NodeOptions) -> AsyncIterator[NodeContext]:
    """Open the connections and allocators that all Pods of the node share."""
    layout = Layout(options.state)
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        connected(options.kubeconfig) as client,
        connected(options.volumes_kubeconfig or options.kubeconfig) as provisioner,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):
        with contextlib.closing(PodIPAllocator(str(options.state))) as pod_ips:
            folders = VolumeFolders(
                options.shared_volumes or layout.claims, shared=bool(options.shared_volumes)
            )
            claims = LocalVolumeProvisioner(provisioner, folders, options.name, options.storage_class)
            yield _new_context(options, client, claims, session, pod_ips)


def _new_context(
    options: NodeOptions,
    client: Client,
    claims: LocalVolumeProvisioner,
    session: aiohttp.ClientSession,
    pod_ips: PodIPAllocator,
) -> NodeContext:
    layout = Layout(options.state)
    return NodeContext(
        name=options.name,
        layout=layout,
        client=client,
        session=session,
        pod_ips=pod_ips,
        devices=DeviceManager(options.resources, options.device_replicas),
        claims=claims,
        events=EventRecorder(client, options.name),
        checkpoints=CheckpointManager(layout.checkpoints),
        back_off=BackOff(options.back_off),
        boot=boot_id(),
        images=options.images,
        mounts_variable=options.mounts_variable,
        devices_annotation=options.devices_annotation,
    )


@contextlib.asynccontextmanager
async def _endpoint(options: NodeOptions, node: NodeContext, kubelet: Kubelet) -> AsyncIterator[int]:
    """Serve the node's endpoint; yields its port."""
    app = application(kubelet, node.layout, node.client.bearer(), secure=options.tls is not None)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        context = tls.server_context(options.tls) if options.tls else None
        site = web.TCPSite(runner, HOST, options.port, ssl_context=context)
        await site.start()
        port = int(runner.addresses[0][1])
        if options.port_file is not None:
            options.port_file.write_text(f"{port}\n")
        yield port
    finally:
        await runner.cleanup()


async def _register(client: Client, options: NodeOptions, port: int) -> None:
    counts = {resource: len(ids) * options.device_replicas for resource, ids in options.resources.items()}
    node = NodeIdentity(name=options.name, port=port, extended=counts, labels=options.labels)
    await node_registration.register(client, node)
    log.info("node %s is registered; logs on port %d", options.name, port)
    await node_registration.heartbeat(client, node)


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
