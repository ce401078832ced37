"""`python -m localkube.apiserver`: the command line of an API server that listens on loopback.

Without certificates it serves plain HTTP. `server` runs it.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from localkube.apiserver.bootstrap import Content, read_definitions
from localkube.apiserver.server import ServerOptions, run
from localkube.tls import TlsFiles


def options(arguments: Sequence[str]) -> ServerOptions:
    """Parse the command line. Exits with code 2 on wrong arguments and on incomplete TLS options."""
    parser = argparse.ArgumentParser(prog="python -m localkube.apiserver", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="directory of the journal")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any)")
    parser.add_argument("--port-file", type=Path, help="file to write the port to")
    parser.add_argument(
        "--crds",
        type=Path,
        action="append",
        default=[],
        help="YAML file or directory of definitions to apply",
    )
    parser.add_argument(
        "--token-file", type=Path, help="file with the bearer token (default: no authentication)"
    )
    parser.add_argument("--tls-cert-file", type=Path, help="server certificate (default: plain HTTP)")
    parser.add_argument("--tls-private-key-file", type=Path, help="private key of the server certificate")
    parser.add_argument(
        "--client-ca-file", type=Path, help="CA that signs the certificates of clients and kubelets"
    )
    flags = parser.parse_args(arguments)
    secure = (flags.tls_cert_file, flags.tls_private_key_file, flags.client_ca_file)
    if any(secure) and not all((*secure, flags.token_file)):
        parser.error("TLS needs --tls-cert-file, --tls-private-key-file, --client-ca-file and --token-file")
    return ServerOptions(
        state=flags.state,
        port=flags.port,
        port_file=flags.port_file,
        tls=TlsFiles(*secure) if all(secure) else None,
        token_file=flags.token_file,
        content=Content(definitions=read_definitions(flags.crds)),
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sys.exit(run(options(sys.argv[1:])))
