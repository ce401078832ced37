"""Credentials: how a request to the API server authenticates, and how that is renewed while a process runs.

A fixed header, a token file that is read again, or an exec plugin (client.authentication.k8s.io) that is run
again. Where credentials come from is not decided here but in `kubeconfig`; when they are used, in
`transport`.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.runtime.clock import monotonic

_TOKEN_SECONDS = 60.0
"""How long a token file counts as current.

The kubelet rotates a service account's token long before it expires.
"""
_PLUGIN_SECONDS = 60.0
_EXPIRY_MARGIN_SECONDS = 10.0


class AccessError(Exception):
    """There is no access to the API server; the message names the file, the field and the remedy."""


class Credentials(Protocol):
    """What authenticates requests."""

    async def headers(self) -> Mapping[str, str]:
        """Return the headers of the next request.

        Called for each request: must be cheap unless a renewal is due. Raises AccessError.
        """
        ...

    def reject(self) -> None:
        """Renew before the next request: the API server answered 401."""
        ...


class FixedHeaders:
    """A token, a user with a password, or nothing (a client certificate needs no header)."""

    def __init__(self, authorization: str = "") -> None:
        self._headers = {"Authorization": authorization} if authorization else {}

    async def headers(self) -> Mapping[str, str]:
        """Return the header, if any."""
        return self._headers

    def reject(self) -> None:
        """Do nothing: there is no other credential."""


class TokenFile:
    """A bearer token in a file that others rotate.

    It is read at least once a minute while requests are made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read_at = 0.0

    async def headers(self) -> Mapping[str, str]:
        """Return the token of the file; the last one while the file cannot be read."""
        now = monotonic()
        if not self._token or now - self._read_at > _TOKEN_SECONDS:
            self._token, self._read_at = self._read(), now
        return {"Authorization": f"Bearer {self._token}"}

    def reject(self) -> None:
        """Read the file before the next request."""
        self._read_at = float("-inf")

    def _read(self) -> str:
        cause = "the file is empty"
        try:
            token = self._path.read_text().strip() or self._token
        except OSError as error:
            cause, token = error.strerror or type(error).__name__, self._token
        if not token:
            raise AccessError(
                f"{self._path}: no token: {cause}; mount the service account or correct tokenFile"
            )
        return token


class PluginCommand(msgspec.Struct, frozen=True, kw_only=True):
    """An exec plugin as a kubeconfig describes it.

    `cluster` describes the cluster to it, if it asks for that.
    """

    command: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    api_version: str
    install_hint: str
    cluster: Mapping[str, object] | None
    source: str
    """File and field, for errors."""


class _PluginStatus(msgspec.Struct, kw_only=True, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _PluginReply(msgspec.Struct, kw_only=True, rename="camel"):
    api_version: str
    status: _PluginStatus


class ExecPlugin:
    """A program that prints an ExecCredential.

    Run again when that expires or is rejected, one run at a time.
    """

    def __init__(self, plugin: PluginCommand, tls: ssl.SSLContext | None) -> None:
        self._plugin, self._tls = plugin, tls
        self._status: _PluginStatus | None = None
        self._lock = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        """Return the plugin's token, if any.

        A client certificate goes into the TLS context, for connections made from then on.
        """
        async with self._lock:
            if self._status is None or _expired(self._status):
                self._status = await self._renewed()
        return {"Authorization": f"Bearer {self._status.token}"} if self._status.token else {}

    def reject(self) -> None:
        """Run the plugin before the next request."""
        self._status = None

    async def _renewed(self) -> _PluginStatus:
        status = self._decoded(await self._output())
        if status.client_certificate_data and self._tls is not None:
            load_client_certificate(
                self._tls, status.client_certificate_data, status.client_key_data, self._plugin.source
            )
        return status

    async def _output(self) -> bytes:
        """Run the plugin; returns its standard output."""
        spec = {"interactive": False} | ({"cluster": self._plugin.cluster} if self._plugin.cluster else {})
        request = {"apiVersion": self._plugin.api_version, "kind": "ExecCredential", "spec": spec}
        variables = {"KUBERNETES_EXEC_INFO": msgspec.json.encode(request).decode()}
        try:
            process = await asyncio.create_subprocess_exec(
                self._plugin.command,
                *self._plugin.arguments,
                env={**os.environ, **self._plugin.environment, **variables},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise self._failure(f"cannot run: {error.strerror}") from error
        try:
            async with asyncio.timeout(_PLUGIN_SECONDS):
                output, errors = await process.communicate()
        except TimeoutError as error:
            raise self._failure(f"no credential within {_PLUGIN_SECONDS:.0f} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if process.returncode:
            last = errors.decode(errors="replace").strip()[-300:]
            raise self._failure(f"exit code {process.returncode}" + (f": {last}" if last else ""))
        return output

    def _decoded(self, output: bytes) -> _PluginStatus:
        try:
            reply = read_json(output, _PluginReply)
        except ForeignJsonError as error:
            raise self._failure(f"prints no ExecCredential: {error}") from error
        if reply.api_version != self._plugin.api_version:
            raise self._failure(f"prints {reply.api_version}, configured is {self._plugin.api_version}")
        if not reply.status.token and not reply.status.client_certificate_data:
            raise self._failure("prints neither status.token nor status.clientCertificateData")
        return reply.status

    def _failure(self, cause: str) -> AccessError:
        hint = self._plugin.install_hint or "run it by hand to see why"
        return AccessError(f"{self._plugin.source}: {self._plugin.command}: {cause}; {hint}")


def _expired(status: _PluginStatus) -> bool:
    expiry = status.expiration_timestamp
    return expiry is not None and (expiry - datetime.now(UTC)).total_seconds() < _EXPIRY_MARGIN_SECONDS


def load_client_certificate(tls: ssl.SSLContext, certificate: str, key: str, source: str) -> None:
    """Load a client certificate and its key, both PEM, into a TLS context. Raises AccessError.

    The `ssl` module reads them from files alone: they lie in a folder of this user while it does.
    """
    import tempfile  # noqa: PLC0415 -- 0.7 MiB with the compression libraries that it imports; a Pod has a token

    with tempfile.TemporaryDirectory() as folder:
        certificate_path, key_path = Path(folder, "tls.crt"), Path(folder, "tls.key")
        certificate_path.write_text(certificate)
        key_path.write_text(key)
        try:  # without a password, OpenSSL would ask for that of an encrypted key on the terminal
            tls.load_cert_chain(certificate_path, key_path, password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            raise AccessError(
                f"{source}: client certificate and key do not load: {error}; an encrypted key is not supported"
            ) from error
