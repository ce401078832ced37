"""Instance: where one FlexInfer on this machine keeps its files, ports and credentials.

One folder is one instance, so several live side by side. Everything listens on loopback and asks for a credential; what holds one
is a file of mode 0600 in a folder of mode 0700. This module starts nothing.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

HOST = "127.0.0.1"
STATE_VARIABLE = "FLEXINFER_STATE"
PREFERRED_PORTS = {"proxy": 7400, "api": 7401, "nats": 7402, "node": 7403}
PLANE_PORTS = {"etcd": 7404, "etcd_peer": 7405, "etcd_health": 7406, "manager": 7407, "scheduler": 7408}
LOCAL, REAL, PLANE = "local", "real", "plane"
"""Worlds: the local API; a real control plane in its place; that control plane and nothing else."""
WORLDS = (LOCAL, REAL, PLANE)
_STRIDE, _TRIES = 10, 400
_SECRET_BYTES = 24


class InstanceError(Exception):
    """The state folder is not what it should be; the message says what to do."""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The ports that must stay the same over restarts, since others know them. Those of a real control plane are 0 without one."""

    proxy: int
    api: int
    nats: int
    node: int
    etcd: int = 0
    etcd_peer: int = 0
    etcd_health: int = 0
    manager: int = 0
    scheduler: int = 0


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
        """The key that the door asks for."""
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
    def door_url(self) -> str:
        """The door, without a path."""
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
            "OPENAI_BASE_URL": f"{self.door_url}/v1",
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
    found = Instance(state, identity, _ports(former.ports if former else None, held, chosen), chosen)
    for folder in (found.logs, found.run, state / "secrets"):
        _private(folder)
    write_private(
        state / "instance.json",
        msgspec.json.format(msgspec.json.encode(_Saved(identity, found.ports, chosen))),
    )
    return found


def _ports(former: Ports | None, held: frozenset[str], world: str) -> Ports:
    chosen: dict[str, int] = {}
    for name, preferred in (PREFERRED_PORTS | (PLANE_PORTS if world != LOCAL else {})).items():
        kept: int = getattr(former, name) if former else 0
        if kept and (name in held or not _answers(kept)):
            chosen[name] = kept
        else:
            chosen[name] = _free_port(preferred)
    return Ports(**chosen)


def _free_port(preferred: int) -> int:
    """Return the preferred port, or the next of its row that nobody has."""
    for port in range(preferred, preferred + _STRIDE * _TRIES, _STRIDE):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise InstanceError(f"no free port from {preferred} on in steps of {_STRIDE}")


def _answers(port: int) -> bool:
    """Tell whether somebody listens; connections that linger from a former run do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return True
    return False


@contextlib.contextmanager
def opened(state: Path, *, held: frozenset[str] = frozenset(), world: str = "") -> Iterator[Instance]:
    """Yield the instance of a folder (see `ensure`), with its ports kept for it until the block ends.

    Two that are started in the same moment choose one after the other: between a choice and its reservation nobody else chooses.
    """
    with contextlib.ExitStack() as stack:
        with _choosing():
            instance = ensure(state, held=held, world=world)
            stack.enter_context(reserved(instance.ports))
        yield instance


@contextlib.contextmanager
def _choosing() -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"flexinfer-ports-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reserved(ports: Ports) -> Iterator[None]:
    """Keep other instances from choosing these ports while ours are down for a moment.

    A bound socket that does not listen: servers, which set SO_REUSEADDR, may bind beside it; `_free_port`, which does not, may not.
    """
    with contextlib.ExitStack() as stack:
        for port in filter(None, msgspec.structs.astuple(ports)):
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                holder.bind((HOST, port))
        yield


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
