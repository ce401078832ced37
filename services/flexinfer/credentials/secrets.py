"""Making the Secrets: an authority, NATS' certificate signed by it, and one password a user.

Each is created and none is ever replaced: who finds one there leaves it. Only the authority is read back, to sign what is missing, so
that a run which was cut off is gone on with by the next. Whoever wants other passwords deletes their Secret and runs this again.
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
"""In a cluster every service is a process of its own: nobody is all of them."""
SERVER, PEERS = "flexinfer-nats", "flexinfer-nats-peers"
AUTHORITY_SECRET, SERVER_SECRET = "flexinfer-nats-authority", "flexinfer-nats-server"
_PASSWORD_BYTES, _LETTER = 32, b"p"
"""nats-server reads a variable as it reads a value: what begins with a digit might be taken for a number."""


class Secret(msgspec.Struct):
    """A Secret of the Kubernetes API, as far as we read it."""

    data: dict[str, str] = {}


SECRETS: Kind[Secret] = Kind("v1", "Secret", "secrets", Secret)


def secret_of(user: str) -> str:
    """Return the name of a user's Secret: `password`, and `ca.crt` to know the server by."""
    return f"flexinfer-nats-{user}"


def names(domain: str) -> tuple[str, ...]:
    """Return every name by which NATS is called, short and with the cluster's domain."""
    inside = f"{SYSTEM_NAMESPACE}.svc"
    called = (f"{SERVER}.{inside}", f"*.{PEERS}.{inside}")
    return (SERVER, *called, *(f"{name}.{domain}" for name in called))


async def make(cluster: Cluster, domain: str) -> list[str]:
    """Create what is missing; returns the names of what was."""
    with tempfile.TemporaryDirectory() as folder:
        return await _make(cluster, Path(folder), Subject(SERVER, dns=names(domain), client=True))


async def _make(cluster: Cluster, folder: Path, server: Subject) -> list[str]:
    """Make them in a folder first; NATS' servers show their certificate to each other, hence `client`."""
    certificates.issue(folder, "tls", server)
    made = []
    if await _created(cluster, AUTHORITY_SECRET, _files(folder, "ca.crt", "ca.key")):
        made.append(AUTHORITY_SECRET)
    else:
        await _read_authority(cluster, folder)
        certificates.issue(folder, "tls", server)
    wanted = {SERVER_SECRET: _files(folder, "ca.crt", "tls.crt", "tls.key")}
    for user in USERS:
        password = secrets.token_urlsafe(_PASSWORD_BYTES).encode()
        wanted[secret_of(user)] = {"password": _LETTER + password, **_files(folder, "ca.crt")}
    return made + [name for name, data in wanted.items() if await _created(cluster, name, data)]


async def _read_authority(cluster: Cluster, folder: Path) -> None:
    """Take the authority that there is; what was signed by another is signed anew by the next `issue`."""
    known = await cluster.get(SECRETS, SYSTEM_NAMESPACE, AUTHORITY_SECRET)
    for name in ("ca.crt", "ca.key"):
        (folder / name).write_bytes(base64.b64decode(known.data[name]))


def _files(folder: Path, *files: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files}


async def _created(cluster: Cluster, name: str, data: Mapping[str, bytes]) -> bool:
    """Create a Secret unless there is one of that name."""
    body = {
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
        log.info("%s is there and stays", name)
        return False
    log.info("made %s", name)
    return True
