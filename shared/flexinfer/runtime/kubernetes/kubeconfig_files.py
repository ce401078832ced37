"""The files of a kubeconfig: their form, and what several of them are together.

What an entry means is `kubeconfig`'s to decide.
"""

import base64
import binascii
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from flexinfer.runtime.kubernetes.credentials import AccessError

T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A part of a kubeconfig; unknown fields are ignored, as kubectl does."""


class Extension(_Part, frozen=True, kw_only=True):
    """A named extension of a cluster."""

    name: str
    extension: dict[str, object] = {}


class Cluster(_Part, frozen=True, kw_only=True):
    """A server: its address, the authority that it must be signed by, and the proxy to it."""

    server: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    proxy_url: str = ""
    extensions: tuple[Extension, ...] | None = None


class _Variable(_Part, frozen=True, kw_only=True):
    name: str
    value: str


class Exec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An exec plugin."""

    command: str
    api_version: str
    args: tuple[str, ...] | None = None
    env: tuple[_Variable, ...] | None = None
    install_hint: str = ""
    interactive_mode: str = "IfAvailable"
    provide_cluster_info: bool = False


class User(_Part, frozen=True, kw_only=True):
    """How to authenticate."""

    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    password: str = ""
    exec: Exec | None = None
    auth_provider: object = None
    impersonated: object = msgspec.field(name="as", default=None)


class Context(_Part, frozen=True, kw_only=True):
    """A cluster and a user."""

    cluster: str
    user: str = ""


class _NamedCluster(_Part, frozen=True, kw_only=True):
    name: str
    cluster: Cluster


class _NamedUser(_Part, frozen=True, kw_only=True):
    name: str
    user: User


class _NamedContext(_Part, frozen=True, kw_only=True):
    name: str
    context: Context


class _Config(_Part, frozen=True, kw_only=True):
    current_context: str = ""
    clusters: tuple[_NamedCluster, ...] | None = None
    users: tuple[_NamedUser, ...] | None = None
    contexts: tuple[_NamedContext, ...] | None = None


class Source(msgspec.Struct, frozen=True):
    """Where an entry is: its file and its name, for paths relative to the file and for errors."""

    file: Path
    entry: str

    def fail(self, field: str, cause: str) -> NoReturn:
        """Raise AccessError."""
        raise AccessError(f"{self.file}: {self.entry}.{field}: {cause}")

    def path(self, name: str) -> Path:
        """Return a path of the file, which may be relative to its folder."""
        return self.file.parent / Path(name).expanduser()

    def text(self, field: str, data: str, file: str) -> str:
        """Return what a field `x-data` (base64) or `x` (a path) holds; the data goes first."""
        if data:
            try:
                return base64.b64decode(data, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                self.fail(f"{field}-data", "not base64 of a PEM text; encode it with base64 -w0")
        try:
            return self.path(file).read_text() if file else ""
        except OSError as error:
            self.fail(field, f"{self.path(file)}: {error.strerror}; write the file or correct its path")


class Files:
    """The entries of all files; of several with one name, the first wins whole, as kubectl does it."""

    def __init__(self, kubeconfig: str, context: str = "") -> None:
        """Read the files; `context` goes before their current-context."""
        self.contexts: dict[str, tuple[Source, Context]] = {}
        self.clusters: dict[str, tuple[Source, Cluster]] = {}
        self.users: dict[str, tuple[Source, User]] = {}
        self.current, self._names = context, kubeconfig
        paths = [Path(name).expanduser() for name in kubeconfig.split(os.pathsep) if name]
        existing = [path for path in paths if path.exists()]
        if not existing:
            raise AccessError(f"{kubeconfig}: no such file; write the kubeconfig or correct its path")
        for path in existing:
            self._add(path, _read(path))
        if not self.current:
            raise AccessError(f"{kubeconfig}: current-context is not set; kubectl config use-context NAME")

    def _add(self, path: Path, config: _Config) -> None:
        self.current = self.current or config.current_context
        for context in config.contexts or ():
            source = Source(path, f"contexts[{context.name}]")
            self.contexts.setdefault(context.name, (source, context.context))
        for cluster in config.clusters or ():
            source = Source(path, f"clusters[{cluster.name}].cluster")
            self.clusters.setdefault(cluster.name, (source, cluster.cluster))
        for user in config.users or ():
            source = Source(path, f"users[{user.name}].user")
            self.users.setdefault(user.name, (source, user.user))

    def entry(self, entries: Mapping[str, tuple[Source, T]], field: str, name: str) -> tuple[Source, T]:
        """Return an entry by its name. Raises AccessError."""
        if name not in entries:
            names = ", ".join(entries) or "none"
            raise AccessError(f"{self._names}: {field} has no {name!r} (it has {names}); correct the name")
        return entries[name]


def _read(path: Path) -> _Config:
    try:
        return msgspec.convert(_content(path) or {}, _Config)
    except OSError as error:
        raise AccessError(f"{path}: {error.strerror}; make it readable to this user") from error
    except UnicodeDecodeError as error:
        raise _not_yaml(path, error) from error
    except msgspec.ValidationError as error:
        cause, _, field = str(error).partition(" - at `$.")
        field = field.rstrip("`") or "file"
        raise AccessError(f"{path}: {field}: {cause}; kubectl config view shows the form") from error


def _content(path: Path) -> object:
    """Return what is in a file. Raises AccessError, OSError and UnicodeDecodeError."""
    text = path.read_text()
    with contextlib.suppress(msgspec.DecodeError):  # JSON is YAML, and that of `flexinfer up`
        return msgspec.json.decode(text)
    import yaml  # noqa: PLC0415 -- 1 MiB that no component of `flexinfer up` and no Pod need spend

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error


def _not_yaml(path: Path, error: Exception) -> AccessError:
    return AccessError(f"{path}: not YAML: {' '.join(str(error).split())}; correct the file")
