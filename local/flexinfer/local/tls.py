"""The TLS files of this instance's servers, issued by its own authority."""

from pathlib import Path

from flexinfer.runtime import certificates
from localkube.tls import TlsFiles


def tls_files(folder: Path, name: str = "server") -> TlsFiles:
    """Return the files of a server on loopback; they are issued if they are absent or cannot be read."""
    certificates.issue(folder, name)
    return TlsFiles(folder / f"{name}.crt", folder / f"{name}.key", certificates.authority_file(folder))
