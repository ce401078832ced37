"""`python -m flexinfer.local.kubelet`: localkube's kubelet with FlexInfer's image runtimes, StorageClass and certificates.

SIGTERM ends it and leaves the Pods' processes running, for the next one to adopt; SIGUSR1 stops those first.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flexinfer.local.identities import NODE_NAME
from flexinfer.local.images import IMAGES
from flexinfer.local.storage import CLASS
from flexinfer.local.tls import tls_files
from localkube.kubelet import device_manager
from localkube.kubelet.node import NodeOptions, run

MOUNTS_VARIABLE = "FLEXINFER_MOUNTS"
_CERTIFICATE = "node"


def options(arguments: Sequence[str]) -> NodeOptions:
    """Read the command line; certificates that are missing are issued."""
    parsed = _parser().parse_args(arguments)
    state = parsed.state.absolute()
    return NodeOptions(
        state=state,
        name=parsed.name,
        kubeconfig=parsed.kubeconfig,
        volumes_kubeconfig=parsed.volumes_kubeconfig,
        port=parsed.port,
        tls=tls_files(parsed.certificates or state / "certificates", _CERTIFICATE),
        back_off=parsed.back_off,
        resources=device_manager.parsed_quantities(parsed.resource) or device_manager.detected(),
        images=IMAGES,
        storage_class=CLASS,
        mounts_variable=MOUNTS_VARIABLE,
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
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run(options(sys.argv[1:]))
