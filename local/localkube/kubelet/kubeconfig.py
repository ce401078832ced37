"""Access to an API server: by a kubeconfig, or by a Pod's service account without one; client-go's clientcmd, reduced.

No exec plugins, auth providers or proxies.
"""

import base64
import contextlib
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeconfigError(Exception):
    """A kubeconfig or service account cannot be used; the message names what is missing."""


class Access(msgspec.Struct, frozen=True):
    """The address of an API server and the credentials to show it. `token_file` is read for every request: its content is rotated."""

    server: str
    context: ssl.SSLContext | None = None
    token: str = ""
    token_file: str = ""

    def bearer(self) -> str:
        """Return the bearer token; empty when another credential is used. Raises OSError if its file cannot be read."""
        return Path(self.token_file).read_text().strip() if self.token_file else self.token


def access(kubeconfig: str, environment: Mapping[str, str] = os.environ) -> Access:
    """Return the access by the current context of a kubeconfig, or by the service account. Raises KubeconfigError."""
    try:
        return _from_file(Path(kubeconfig)) if kubeconfig else _in_cluster(environment)
    except (OSError, KeyError, TypeError, ValueError) as error:
        where = kubeconfig or "the Pod's service account"
        raise KubeconfigError(f"{where}: {error!r}") from error


def _in_cluster(environment: Mapping[str, str]) -> Access:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
    context = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    authority = f"[{host}]" if ":" in host else host
    return Access(f"https://{authority}:{port}", context, token_file=str(SERVICE_ACCOUNT / "token"))


def _from_file(path: Path) -> Access:
    config = _parsed(path.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    server = str(cluster["server"]).rstrip("/")
    secure = server.startswith("https://")
    return Access(
        server,
        _context(cluster, user, path.parent) if secure else None,
        token=str(user.get("token") or ""),
        token_file=str(path.parent / user["tokenFile"]) if user.get("tokenFile") else "",
    )


def _parsed(text: str) -> dict[str, Any]:
    """Return the content of a kubeconfig. Raises ValueError."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(text, type=dict[str, Any])
    import yaml  # noqa: PLC0415 -- 1 MiB, for the kubeconfigs that are not JSON only

    try:
        return dict(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def _context(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = (_content(user, name, folder) for name in ("client-certificate", "client-key"))
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:  # OpenSSL loads a pair from files only
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _content(entry: dict[str, Any], name: str, folder: Path) -> bytes:
    """Return what a field names by its path or holds as `-data`; empty when neither is set."""
    if entry.get(f"{name}-data"):
        return base64.b64decode(entry[f"{name}-data"])
    return (folder / entry[name]).read_bytes() if entry.get(name) else b""
