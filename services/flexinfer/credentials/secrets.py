"""The Secrets of NATS (a certificate authority, the server's certificate, one password a user), and the API key of the proxy.

Idempotent: an interrupted run is completed by the next. A Secret that exists is never replaced; the
authority's is read, to sign what is missing. To rotate a password or certificate, delete its Secret and run
this again.
"""

import base64
import logging
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.labels import PART_OF_LABEL
from flexinfer.events import permissions
from flexinfer.runtime import certificates
from flexinfer.runtime.certificates import Subject
from flexinfer.runtime.kubernetes.api import AlreadyExistsError, Cluster, Kind

log = logging.getLogger(__name__)
USERS = permissions.CLUSTER_USERS
"""The users of a cluster, where every component runs in a process of its own."""
SERVER, PEERS = "flexinfer-nats", "flexinfer-nats-peers"
AUTHORITY_SECRET, SERVER_SECRET = "flexinfer-nats-authority", "flexinfer-nats-server"
API_KEY_SECRET, API_KEY_FILE = "flexinfer-api-key", "key"
"""The key that clients of the proxy send; a Secret of that name with another key is left as it is."""
_PASSWORD_BYTES, _LETTER = 32, b"p"
"""nats-server parses a variable as it parses a value: one that begins with a digit may become a number."""


class Secret(msgspec.Struct):
    """A Secret of the Kubernetes API, reduced to its data (base64)."""

    data: dict[str, str] = {}


SECRETS: Kind[Secret] = Kind("v1", "Secret", "secrets", Secret)


def secret_of(user: str) -> str:
    """Return the name of a user's Secret: `password`, and `ca.crt` to verify the server."""
    return f"flexinfer-nats-{user}"


def names(domain: str) -> tuple[str, ...]:
    """Return every DNS name of the server and its peers, short and with the cluster's domain."""
    services = f"{SYSTEM_NAMESPACE}.svc"
    short = (f"{SERVER}.{services}", f"*.{PEERS}.{services}")
    return (SERVER, *short, *(f"{name}.{domain}" for name in short))


async def make(cluster: Cluster, domain: str) -> list[str]:
    """Create the Secrets that are missing; returns their names. Raises ApiError."""
    with tempfile.TemporaryDirectory() as folder:
        return await _make(cluster, Path(folder), Subject(SERVER, dns=names(domain), client=True))


async def _make(cluster: Cluster, folder: Path, server: Subject) -> list[str]:
    """Issue everything in a folder first, then create the Secrets.

    The server's certificate is a client's too: the servers of a NATS cluster verify each other. A container starts once the Secret of its
    user exists, so those come last.
    """
    certificates.issue(folder, "tls", server)
    names = []
    if await _create(cluster, AUTHORITY_SECRET, _files(folder, "ca.crt", "ca.key")):
        names.append(AUTHORITY_SECRET)
    else:
        await _read_authority(cluster, folder)
        certificates.issue(folder, "tls", server)
    contents = {SERVER_SECRET: _files(folder, "ca.crt", "tls.crt", "tls.key")}
    contents[API_KEY_SECRET] = {API_KEY_FILE: secrets.token_urlsafe(_PASSWORD_BYTES).encode()}
    for user in USERS:
        password = secrets.token_urlsafe(_PASSWORD_BYTES).encode()
        contents[secret_of(user)] = {"password": _LETTER + password, **_files(folder, "ca.crt")}
    return names + [name for name, data in contents.items() if await _create(cluster, name, data)]


async def _read_authority(cluster: Cluster, folder: Path) -> None:
    """Write the existing authority into the folder: the next `issue` signs again what another has signed."""
    secret = await cluster.get(SECRETS, SYSTEM_NAMESPACE, AUTHORITY_SECRET)
    for name in ("ca.crt", "ca.key"):
        (folder / name).write_bytes(base64.b64decode(secret.data[name]))


def _files(folder: Path, *files: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files}


async def _create(cluster: Cluster, name: str, data: Mapping[str, bytes]) -> bool:
    """Create a Secret; returns False if there is one of that name. Raises ApiError."""
    body: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": SYSTEM_NAMESPACE,
            "labels": {PART_OF_LABEL: "flexinfer"},
        },
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    try:
        await cluster.create(SECRETS, SYSTEM_NAMESPACE, body)
    except AlreadyExistsError:
        log.info("Secret %s exists: left unchanged", name)
        return False
    log.info("Secret %s created", name)
    return True
