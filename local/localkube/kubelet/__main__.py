"""`python -m localkube.kubelet`: a node that runs Pods as processes of the current user."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from localkube.kubelet import device_manager
from localkube.kubelet.image_runtimes import PROCESS, ImageRuntime, ImageRuntimes, Runtime
from localkube.kubelet.node import NodeOptions, run
from localkube.tls import TlsFiles


def options(arguments: Sequence[str]) -> NodeOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m localkube.kubelet", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for everything that the node keeps")
    parser.add_argument("--name", default="local", help="the Node's name (default: %(default)s)")
    parser.add_argument(
        "--kubeconfig", default=os.environ.get("KUBECONFIG", ""), help="how to reach the API server"
    )
    parser.add_argument("--port", type=int, default=0, help="of its own endpoint (default: any)")
    parser.add_argument(
        "--back-off", type=float, default=10.0, help="seconds before the second restart of a container"
    )
    parser.add_argument(
        "--image", action="append", default=[], metavar="PATTERN=COMMAND", help="run an image by a program"
    )
    parser.add_argument(
        "--resource", action="append", default=[], metavar="NAME=NUMBER", help="extended resource to offer"
    )
    parser.add_argument("--tls-cert-file", type=Path, help="certificate (default: plain HTTP)")
    parser.add_argument("--tls-private-key-file", type=Path, help="its key")
    parser.add_argument(
        "--client-ca-file", type=Path, help="authority of the API server's client certificate"
    )
    flags = parser.parse_args(arguments)
    secure = (flags.tls_cert_file, flags.tls_private_key_file, flags.client_ca_file)
    if any(secure) and not all(secure):
        parser.error("TLS needs --tls-cert-file, --tls-private-key-file and --client-ca-file")
    return NodeOptions(
        state=flags.state.absolute(),
        name=flags.name,
        kubeconfig=flags.kubeconfig,
        port=flags.port,
        back_off=flags.back_off,
        tls=TlsFiles(*secure) if all(secure) else None,
        resources=device_manager.parsed(flags.resource) or device_manager.detected(),
        images=ImageRuntimes((PROCESS, *map(_entry, flags.image))),
    )


def _entry(text: str) -> ImageRuntime:
    pattern, _, command = text.partition("=")
    runtime = Runtime(tuple(shlex.split(command)))
    return ImageRuntime((pattern,), lambda _which: runtime)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run(options(sys.argv[1:]))
