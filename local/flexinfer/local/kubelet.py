"""`python -m flexinfer.local.kubelet`: localkube's kubelet with FlexInfer's image runtimes, StorageClass and certificates.

SIGTERM ends it and leaves the Pods' processes running, for the next one to adopt; SIGUSR1 stops those first, SIGUSR2 stops
them and ends nothing.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flexinfer.api.labels import DEVICES_ANNOTATION
from flexinfer.local.identities import NODE_NAME
from flexinfer.local.images import IMAGES
from flexinfer.local.storage import CLASS
from flexinfer.local.tls import tls_files
from flexinfer.runtime import event_loop
from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp
from localkube.kubelet import device_manager
from localkube.kubelet.node import NodeOptions, run

MOUNTS_VARIABLE = "FLEXINFER_MOUNTS"
CERTIFICATE = "node"


REPLICAS = 8
"""How many Pods may have a GPU at once: what they use of it is judged by memory, by the arbiter and the placer."""


def options(arguments: Sequence[str]) -> NodeOptions:
    """Read the command line; certificates that are missing are issued."""
    flags = _parser().parse_args(arguments)
    state = flags.state.absolute()
    return NodeOptions(
        state=state,
        name=flags.name,
        kubeconfig=flags.kubeconfig,
        volumes_kubeconfig=flags.volumes_kubeconfig,
        port=flags.port,
        port_file=flags.port_file,
        tls=tls_files(flags.certificates or state / "certificates", flags.certificate),
        back_off=flags.back_off,
        resources=(resources := _resources(flags)),
        device_replicas=flags.replicas or _replicas(resources),
        labels=dict(_pair(text) for text in flags.label),
        shared_volumes=flags.shared_volumes,
        images=IMAGES,
        storage_class=CLASS,
        mounts_variable=MOUNTS_VARIABLE,
        devices_annotation=DEVICES_ANNOTATION,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flexinfer.local.kubelet", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state folder of the node")
    parser.add_argument("--name", default=NODE_NAME, help="the Node's name (default: %(default)s)")
    parser.add_argument(
        "--kubeconfig", default=os.environ.get("KUBECONFIG", ""), help="kubeconfig of the API server"
    )
    parser.add_argument(
        "--volumes-kubeconfig",
        default="",
        help="identity that creates volumes, which nodes may not on a real API server (default: this node)",
    )
    parser.add_argument("--port", type=int, default=0, help="of its own endpoint (default: any)")
    parser.add_argument("--port-file", type=Path, help="file to write that port to")
    parser.add_argument(
        "--certificates",
        type=Path,
        help="folder with the authority that the API server trusts, and this node's certificate (default: STATE/certificates)",
    )
    parser.add_argument(
        "--certificate",
        default=CERTIFICATE,
        metavar="NAME",
        help="this node's certificate in that folder (default: %(default)s)",
    )
    parser.add_argument(
        "--shared-volumes",
        type=Path,
        metavar="DIR",
        help="folder of PVCs that every node of the instance reaches (default: this node's own)",
    )
    parser.add_argument(
        "--back-off",
        type=float,
        default=10.0,
        help="seconds before the second restart of a container (default: 10)",
    )
    _describe_node(parser)
    return parser


def _describe_node(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the Node offers and is labelled with."""
    parser.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="NAME=NUMBER|IDS",
        help="an extended resource to offer in place of the GPUs found, such as nvidia.com/gpu=2 or nvidia.com/gpu=GPU-a,GPU-b",
    )
    parser.add_argument(
        "--no-devices", action="store_true", help="offer no extended resource, whatever this machine has"
    )
    parser.add_argument(
        "--replicas",
        type=int,
        default=0,
        help=f"how many Pods may have a GPU at once (default: {REPLICAS} where the GPUs are known by uuid, else 1)",
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="a label of the Node"
    )


def _replicas(resources: device_manager.Devices) -> int:
    """Return how many Pods may have a GPU of this machine at once: without uuids no telemetry tells what each of them uses."""
    ids = [name for names in resources.values() for name in names]
    return REPLICAS if ids and all(name.startswith("GPU-") for name in ids) else 1


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _resources(flags: argparse.Namespace) -> device_manager.Devices:
    if flags.no_devices:
        return {}
    return device_manager.parsed(flags.resource) or device_manager.detected()


if __name__ == "__main__":
    event_loop.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run(options(sys.argv[1:]))
