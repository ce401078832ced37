"""TLS of a server on loopback, from files that its user provides."""

import ssl
from pathlib import Path

import msgspec


class TlsFiles(msgspec.Struct, frozen=True):
    """The files of a TLS server: its certificate, the private key, and the authority that clients' certificates must be signed by."""

    certificate: Path
    key: Path
    authority: Path


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context for a server; a client may show a certificate and is then verified. Raises OSError if a file cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
