"""The TLS files of an instance, as localkube uses them."""

import ssl
from pathlib import Path

from flexinfer.local.tls import tls_files
from flexinfer.runtime import certificates
from localkube import tls


def test_a_client_that_trusts_the_authority_trusts_its_servers(tmp_path: Path) -> None:
    """Handshake by name and by address, in memory."""
    server = tls.server_context(tls_files(tmp_path))
    for name in ("127.0.0.1", "localhost"):
        client = ssl.create_default_context(cafile=str(certificates.authority_file(tmp_path)))
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
