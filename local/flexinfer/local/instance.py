"""Instance: where one FlexInfer on this machine keeps its files and credentials, and which ports are its own.

One folder is one instance, so several live side by side. Everything listens on loopback and asks for a credential; what holds one
is a file of mode 0600 in a folder of mode 0700. This module starts nothing.
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from flexinfer.local import ports
from flexinfer.local.ports import HOST, Ports

STATE_VARIABLE = "FLEXINFER_STATE"
LOCAL, REAL, PLANE = "local", "real", "plane"
"""Worlds: the local API; a real control plane in its place; that control plane and nothing else."""
WORLDS = (LOCAL, REAL, PLANE)
_SECRET_BYTES = 24


class InstanceError(Exception):
    """The state folder is not what it should be; the message says what to do."""


class Instance(msgspec.Struct, frozen=True):
    """One instance: a folder, a name, ports and the world that its API server is of."""

    state: Path
    identity: str
    ports: Ports
    world: str = LOCAL

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """What lives only while processes do: health ports, the record of processes."""
        return self.state / "run"

    @property
    def certificates(self) -> Path:
        """The authority of this instance, and the certificates that it signed."""
        return self.state / "certificates"

    @property
    def record(self) -> Path:
        """Which processes run: pid, start time, restarts."""
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
        """Return the folder behind a claim of StorageClass flexinfer-local."""
        return self.state / "volumes" / namespace / name

    @property
    def api_url(self) -> str:
        """The API server."""
        return f"https://{HOST}:{self.ports.api}"

    @property
    def proxy_url(self) -> str:
        """The proxy's address, without a path."""
        return f"http://{HOST}:{self.ports.proxy}"

    @property
    def nats_url(self) -> str:
        """The bus, without credentials."""
        return f"nats://{HOST}:{self.ports.nats}"

    def exports(self) -> dict[str, str]:
        """Return what a shell needs to use this instance; it holds credentials."""
        if self.world == PLANE:
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
    world: str = LOCAL


def state_folder(given: str | None, environment: Mapping[str, str]) -> Path:
    """Return the state folder: as given, else $FLEXINFER_STATE, else the user's state folder."""
    chosen = given or environment.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "flexinfer"


def load(state: Path) -> Instance:
    """Read an instance that exists; InstanceError when there is none."""
    path = state / "instance.json"
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
    except FileNotFoundError as error:
        raise InstanceError(f"no FlexInfer in {state}: `flexinfer up` makes one") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise InstanceError(f"{path} cannot be read: {error}") from error
    return Instance(state, saved.identity, saved.ports, saved.world)


def ensure(state: Path, *, held: frozenset[str] = frozenset(), world: str = "") -> Instance:
    """Return the instance of a folder, made if need be, with ports that are free.

    A port keeps its number over restarts unless somebody else has it meanwhile; `held` names the ports that our own running
    processes listen on. `world` is that of a new instance (default: local); one that exists stays in its own, since what one API
    server keeps another does not know: InstanceError when another is asked for.
    """
    try:
        _private(state)
    except OSError as error:
        raise InstanceError(f"{state} cannot be used as state folder: {error.strerror}") from error
    try:
        former: Instance | None = load(state)
    except InstanceError:
        if (state / "instance.json").exists():
            raise
        former = None
    chosen = world or (former.world if former else LOCAL)
    if former and former.world != chosen:
        raise InstanceError(
            f"{state} was made for the {former.world} API, not for the {chosen} one: give another folder with --state"
        )
    identity = former.identity if former else secrets.token_hex(4)
    try:
        own = ports.chosen(former.ports if former else None, held, plane=chosen != LOCAL)
    except ports.PortError as error:
        raise InstanceError(str(error)) from error
    found = Instance(state, identity, own, chosen)
    for folder in (found.logs, found.run, state / "secrets"):
        _private(folder)
    write_private(
        state / "instance.json",
        msgspec.json.format(msgspec.json.encode(_Saved(identity, own, chosen))),
    )
    return found


@contextlib.contextmanager
def opened(state: Path, *, held: frozenset[str] = frozenset(), world: str = "") -> Iterator[Instance]:
    """Yield the instance of a folder (see `ensure`), with its ports kept for it until the block ends.

    Two that are started in the same moment choose one after the other: between a choice and its reservation nobody else chooses.
    """
    with contextlib.ExitStack() as stack:
        with ports.choosing():
            instance = ensure(state, held=held, world=world)
            stack.enter_context(ports.reserved(instance.ports))
        yield instance


@contextlib.contextmanager
def locked(state: Path) -> Iterator[bool]:
    """Hold the folder's lock; yields False when another process holds it. It ends with its process, however that ends."""
    _private(state)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _lock(descriptor):
            yield False
            return
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock; tried thrice, since `lock_holder` touches it for a moment."""
    for pause in (0.02, 0.02, 0.0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
        else:
            return True
    return False


def lock_holder(state: Path) -> int | None:
    """Return the pid of whoever holds the folder's lock, or None when nobody does."""
    try:
        descriptor = os.open(state / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def secret(path: Path) -> str:
    """Return the credential in a file, made at random if there is none."""
    if not path.exists():
        write_private(path, (secrets.token_urlsafe(_SECRET_BYTES) + "\n").encode())
    return read_secret(path)


def read_secret(path: Path) -> str:
    """Return the credential in a file; InstanceError when it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise InstanceError(f"{path} cannot be read ({error.strerror}): run `flexinfer up` first") from error


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def _private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
