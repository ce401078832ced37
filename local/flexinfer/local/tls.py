"""The TLS files of this instance's servers, issued by its own authority."""

import ssl
import subprocess
import sys
from pathlib import Path

from localkube.tls import TlsFiles, server_context

AUTHORITY = "ca.crt"
_HANDSHAKE_FLIGHTS = 4


def tls_files(folder: Path, name: str = "server") -> TlsFiles:
    """Return the files of a server on loopback; they are issued if they are absent or a client would not accept them.

    Raises CalledProcessError if they cannot be issued.
    """
    files = TlsFiles(folder / f"{name}.crt", folder / f"{name}.key", folder / AUTHORITY)
    if not accepted(files):
        subprocess.run(
            [sys.executable, "-m", "flexinfer.local.issue_certificate", str(folder), name], check=True
        )
    return files


def accepted(files: TlsFiles) -> bool:
    """Return whether a client that trusts the authority alone accepts the certificate: a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client_context = ssl.create_default_context(cafile=str(files.authority))
        server = server_context(files).wrap_bio(to_server, to_client, server_side=True)
        client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
        for _ in range(_HANDSHAKE_FLIGHTS):
            outcomes = [_advanced(side) for side in (client, server)]
    except OSError:  # a file is absent, or no certificate; ssl.SSLError: the client refuses it
        return False
    return all(outcomes)


def _advanced(side: ssl.SSLObject) -> bool:
    """Continue a handshake; returns whether it is complete on this side."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
