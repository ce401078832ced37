"""Instance: the state folder of one FlexInfer on this machine, its files and credentials, and its ports.

Several instances run side by side, one per folder. Everything listens on loopback and requires a credential; files with credentials
have mode 0600 in folders of mode 0700. This module starts no process.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from flexinfer.local import ports
from flexinfer.local.ports import HOST, Ports
from localkube import files

STATE_VARIABLE = "FLEXINFER_STATE"
LOCAL, REAL, PLANE = "local", "real", "plane"
"""Which Kubernetes API: the local one; a real control plane in its place; that control plane and nothing else."""
APIS = (LOCAL, REAL, PLANE)
_SECRET_BYTES = 24


class InstanceError(Exception):
    """The state folder cannot be used; the message has the remedy."""


class Instance(msgspec.Struct, frozen=True):
    """One instance: its folder, its name, its ports, and which Kubernetes API it runs (LOCAL, REAL or PLANE)."""

    state: Path
    identity: str
    ports: Ports
    api: str = LOCAL

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """Files of running processes: health ports."""
        return self.state / "run"

    @property
    def certificates(self) -> Path:
        """Folder of the certificate authority of this instance and its certificates."""
        return self.state / "certificates"

    @property
    def record(self) -> Path:
        """The record of processes: pid, start time, restarts."""
        return self.state / "processes.json"

    @property
    def kubeconfig(self) -> Path:
        """What `KUBECONFIG` points at."""
        return self.state / "kubeconfig"

    @property
    def token_file(self) -> Path:
        """The bearer token of the API server's administrator."""
        return self.state / "secrets" / "api.token"

    @property
    def api_key_file(self) -> Path:
        """The API key of the proxy."""
        return self.state / "secrets" / "api.key"

    @property
    def nats_config(self) -> Path:
        """nats-server's configuration."""
        return self.state / "nats.conf"

    def nats_password_file(self, user: str) -> Path:
        """Return the password file of one NATS user."""
        return self.state / "secrets" / f"nats.{user}"

    def log(self, name: str) -> Path:
        """Return the log of one process."""
        return self.logs / f"{name}.log"

    def health_port_file(self, name: str) -> Path:
        """Where a service writes its health port."""
        return self.run / f"{name}.port"

    def claim(self, namespace: str, name: str) -> Path:
        """Return the folder of a PVC of StorageClass flexinfer-local."""
        return self.state / "volumes" / namespace / name

    @property
    def api_url(self) -> str:
        """URL of the API server."""
        return f"https://{HOST}:{self.ports.api}"

    @property
    def proxy_url(self) -> str:
        """URL of the proxy, without a path."""
        return f"http://{HOST}:{self.ports.proxy}"

    @property
    def nats_url(self) -> str:
        """URL of NATS, without credentials."""
        return f"nats://{HOST}:{self.ports.nats}"

    def exports(self) -> dict[str, str]:
        """Return the environment variables for clients of this instance, credentials included. Raises InstanceError."""
        if self.api == PLANE:
            return {"KUBECONFIG": str(self.kubeconfig)}
        password = quote(read_secret(self.nats_password_file("tap")), safe="")
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "OPENAI_BASE_URL": f"{self.proxy_url}/v1",
            "OPENAI_API_KEY": read_secret(self.api_key_file),
            "NATS_URL": f"nats://tap:{password}@{HOST}:{self.ports.nats}",
        }


class _Saved(msgspec.Struct, frozen=True):
    """The content of instance.json."""

    identity: str
    ports: Ports
    api: str = LOCAL


def state_folder(folder: str | None, environment: Mapping[str, str]) -> Path:
    """Return the state folder: as given, else $FLEXINFER_STATE, else the user's state folder. Raises InstanceError if there is no home."""
    path = folder or environment.get(STATE_VARIABLE)
    base = environment.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(path or f"{base}/flexinfer").expanduser().absolute()
    except RuntimeError as error:
        raise InstanceError(f"no state folder is known ({error}): choose one with --state") from error


def load(state: Path) -> Instance:
    """Read an existing instance. Raises InstanceError."""
    path = state / "instance.json"
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Saved)
    except FileNotFoundError as error:
        raise InstanceError(f"no FlexInfer in {state}: `flexinfer up` creates one") from error
    except OSError as error:
        raise unusable(state, error) from error
    except msgspec.MsgspecError as error:
        raise InstanceError(
            f"{path} cannot be read: {error}; restore it, or delete it: `flexinfer up` then writes another, for the local API and with other ports"
        ) from error
    return Instance(state, content.identity, content.ports, content.api)


def ensure(
    state: Path, *, own_ports: frozenset[str] = frozenset(), api: str = "", proxy_port: int = 0
) -> Instance:
    """Return the instance of a folder, created if there is none, with ports that are free.

    A port keeps its number over restarts unless another program uses it meanwhile; `own_ports` names the ports that processes of this
    instance listen on, `proxy_port` is the one that the user wants for the proxy (0: any). `api` is for a new instance (default: local); an existing one keeps its own, since the objects of one API server
    are unknown to another. Raises InstanceError if `api` differs from it, and if the folder or a port cannot be used.
    """
    make_folder(state)
    try:
        previous: Instance | None = load(state)
    except InstanceError:
        if (state / "instance.json").exists():
            raise
        previous = None
    api_kind = api or (previous.api if previous else LOCAL)
    if previous and previous.api != api_kind:
        raise InstanceError(
            f"{state} was created for the {previous.api} API, not for the {api_kind} one: choose another folder with --state"
        )
    identity = previous.identity if previous else secrets.token_hex(4)
    try:
        own = ports.chosen(
            previous.ports if previous else None, own_ports, plane=api_kind != LOCAL, proxy=proxy_port
        )
    except ports.PortError as error:
        raise InstanceError(str(error)) from error
    instance = Instance(state, identity, own, api_kind)
    for folder in (instance.logs, instance.run, state / "secrets"):
        make_folder(folder)
    write_private(
        state / "instance.json",
        msgspec.json.format(msgspec.json.encode(_Saved(identity, own, api_kind))),
    )
    return instance


@contextlib.contextmanager
def opened(
    state: Path, *, own_ports: frozenset[str] = frozenset(), api: str = "", proxy_port: int = 0
) -> Iterator[Instance]:
    """Yield the instance of a folder (see `ensure`), with its ports kept for it until the block ends.

    Two instances that start at once choose one after the other: nothing else chooses a port between a choice and its reservation.
    """
    with contextlib.ExitStack() as stack:
        with ports.choosing():
            instance = ensure(state, own_ports=own_ports, api=api, proxy_port=proxy_port)
            stack.enter_context(ports.reserved(instance.ports))
        yield instance


def secret(path: Path) -> str:
    """Return the credential in a file, generated if there is none. Raises InstanceError."""
    if not path.exists():
        write_private(path, (secrets.token_urlsafe(_SECRET_BYTES) + "\n").encode())
    return read_secret(path)


def read_secret(path: Path) -> str:
    """Return the credential in a file. Raises InstanceError if it cannot be read."""
    try:
        return path.read_text().strip()
    except PermissionError as error:
        raise InstanceError(
            f"{path} belongs to another user: choose another state folder with --state"
        ) from error
    except OSError as error:
        raise InstanceError(f"{path} cannot be read ({error.strerror}): run `flexinfer up` first") from error


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all. Raises InstanceError."""
    try:
        files.replace(path, content)
    except OSError as error:
        raise InstanceError(f"{path} cannot be written: {error.strerror}; {_remedy(error)}") from error


def make_folder(folder: Path) -> None:
    """Make a folder of mode 0700, with its parents, unless there is one. Raises InstanceError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise unusable(folder, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))) from error
    except OSError as error:
        raise unusable(folder, error) from error


def unusable(folder: Path, error: OSError) -> InstanceError:
    """Return the error for a state folder that cannot be used, with the remedy."""
    return InstanceError(f"{folder} cannot be used as state folder: {error.strerror}; {_remedy(error)}")


def _remedy(error: OSError) -> str:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return (
        "free space on that disk, or choose another one with --state"
        if full
        else "choose another one with --state"
    )
