"""`python -m flexinfer.local.apiserver`: localkube's API server with FlexInfer's CRDs and this instance's certificates."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from flexinfer.local.cluster_content import content
from flexinfer.local.tls import tls_files
from flexinfer.runtime import event_loop
from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp
from localkube.apiserver.server import ServerOptions, run


def options(arguments: Sequence[str]) -> ServerOptions:
    """Read the command line; certificates that are missing are issued."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.local.apiserver", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of the journal")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 takes any")
    parser.add_argument(
        "--certificates", type=Path, required=True, help="folder of authority and certificates"
    )
    parser.add_argument("--token-file", type=Path, required=True, help="file with the bearer token")
    parser.add_argument("--port-file", type=Path, help="file to write the port to")
    flags = parser.parse_args(arguments)
    return ServerOptions(
        state=flags.state,
        port=flags.port,
        port_file=flags.port_file,
        tls=tls_files(flags.certificates),
        token_file=flags.token_file,
        content=content(),
    )


if __name__ == "__main__":
    event_loop.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sys.exit(run(options(sys.argv[1:])))
