"""The TLS files of an instance, as localkube uses them."""

import ssl
from pathlib import Path

import pytest

from flexinfer.local.tls import AUTHORITY, accepted, tls_files
from localkube import tls


def test_a_client_that_trusts_the_authority_trusts_its_servers(tmp_path: Path) -> None:
    """Handshake by name and by address, in memory."""
    server = tls.server_context(tls_files(tmp_path))
    for name in ("127.0.0.1", "localhost"):
        client = ssl.create_default_context(cafile=str(tmp_path / AUTHORITY))
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = client.wrap_bio(to_client, to_server, server_hostname=name)
        theirs = server.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(4):
            for side in (ours, theirs):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        assert ours.getpeercert()


def test_files_that_a_client_accepts_stay(tmp_path: Path) -> None:
    """A kubeconfig that was handed out stays valid."""
    files = tls_files(tmp_path)
    before = files.certificate.read_bytes()
    assert tls_files(tmp_path) == files
    assert files.certificate.read_bytes() == before


@pytest.mark.parametrize("broken", ["server.crt", "server.key", "ca.crt", "ca.key"])
def test_a_damaged_file_is_replaced(tmp_path: Path, broken: str) -> None:
    """The certificate, its key, or the authority that signed it."""
    tls_files(tmp_path)
    (tmp_path / broken).write_text("nonsense")
    assert accepted(tls_files(tmp_path))


def test_a_certificate_of_another_authority_is_replaced(tmp_path: Path) -> None:
    """Such as one that was copied from another instance."""
    files, other = tls_files(tmp_path / "a"), tls_files(tmp_path / "b")
    for source, target in ((other.certificate, files.certificate), (other.key, files.key)):
        target.write_bytes(source.read_bytes())
    assert not accepted(files)
    assert accepted(tls_files(tmp_path / "a"))
