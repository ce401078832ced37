"""`python -m localkube.apiserver`: an API server on loopback, plain HTTP unless certificates are given."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from localkube.apiserver.bootstrap import Content, read_definitions
from localkube.apiserver.server import ServerOptions, run
from localkube.tls import TlsFiles


def options(arguments: Sequence[str]) -> ServerOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m localkube.apiserver", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of the journal")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any)")
    parser.add_argument("--port-file", type=Path, help="file to write the port to")
    parser.add_argument("--crds", type=Path, action="append", default=[], help="YAML file or folder to apply")
    parser.add_argument(
        "--token-file", type=Path, help="file with the bearer token (default: none is asked for)"
    )
    parser.add_argument("--tls-cert-file", type=Path, help="certificate (default: plain HTTP)")
    parser.add_argument("--tls-private-key-file", type=Path, help="its key")
    parser.add_argument(
        "--client-ca-file", type=Path, help="authority of clients' and kubelets' certificates"
    )
    given = parser.parse_args(arguments)
    secure = (given.tls_cert_file, given.tls_private_key_file, given.client_ca_file)
    if any(secure) and not all((*secure, given.token_file)):
        parser.error("TLS needs --tls-cert-file, --tls-private-key-file, --client-ca-file and --token-file")
    return ServerOptions(
        state=given.state,
        port=given.port,
        port_file=given.port_file,
        tls=TlsFiles(*secure) if all(secure) else None,
        token_file=given.token_file,
        content=Content(definitions=read_definitions(given.crds)),
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sys.exit(run(options(sys.argv[1:])))
