"""The way to an API server: from kubeconfig files as kubectl reads them, or from a Pod's service account.

What is read, and what is refused with its remedy, is in ADR 0019. It does not write kubeconfigs, and sends
nothing: `transport` does.
"""

import base64
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexinfer.api.address import host_port
from flexinfer.runtime.kubernetes.credentials import (
    AccessError,
    Credentials,
    ExecPlugin,
    FixedHeaders,
    PluginCommand,
    TokenFile,
    load_client_certificate,
)
from flexinfer.runtime.kubernetes.kubeconfig_files import Cluster, Exec, Files, Source, User

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The way to an API server; `server` has no trailing slash, `tls` is None for plain HTTP."""

    server: str
    tls: ssl.SSLContext | None
    credentials: Credentials
    server_name: str = ""
    """The name that the server's certificate must have; empty: the one in `server`."""
    proxy: str = ""
    """The proxy of the kubeconfig; empty: that of the environment, if any."""
    direct: bool = False
    """Whether the environment's proxy is never used: that of a Pod is for the world outside, and its own API server is not there."""


def access(kubeconfig: str, context: str = "") -> Access:
    """Return the way to the API server.

    `kubeconfig` as in $KUBECONFIG (files joined by `:`), empty: this Pod. `context` is one of its contexts, empty: the current one.
    Raises AccessError.
    """
    return from_files(kubeconfig, context) if kubeconfig else from_service_account(os.environ)


def from_service_account(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """Return the way that a Pod has to its own cluster. Raises AccessError."""
    host, port = (environment.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not host or not port:
        raise AccessError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this process is not a Pod; "
            "set FLEXINFER_KUBECONFIG"
        )
    source = Source(folder / "ca.crt", "service account")
    tls = _tls(source, source.text("ca.crt", "", "ca.crt"))
    server = f"https://{host_port(host, port)}"
    return Access(server=server, tls=tls, credentials=TokenFile(folder / "token"), direct=True)


def from_files(kubeconfig: str, context: str = "") -> Access:
    """Return the way of a context, of the current one if none is named. Raises AccessError."""
    files = Files(kubeconfig, context)
    _, kube_context = files.entry(files.contexts, "contexts", files.current)
    source, cluster = files.entry(files.clusters, "clusters", kube_context.cluster)
    server = _server(source, cluster)
    tls = _cluster_tls(source, cluster) if server.startswith("https:") else None
    credentials: Credentials = FixedHeaders()
    if kube_context.user:
        owner, user = files.entry(files.users, "users", kube_context.user)
        _load_certificate(owner, user, tls)
        credentials = _credentials(owner, user, tls, _cluster_info(source, cluster))
    return Access(
        server=server,
        tls=tls,
        credentials=credentials,
        server_name=cluster.tls_server_name,
        proxy=cluster.proxy_url,
    )


def _server(source: Source, cluster: Cluster) -> str:
    if not cluster.server.startswith(("http://", "https://")):
        source.fail(
            "server", f"{cluster.server!r} is no http:// or https:// address; set the API server's URL"
        )
    if cluster.proxy_url and not cluster.proxy_url.startswith(("http://", "https://")):
        source.fail("proxy-url", f"{cluster.proxy_url!r} is not supported; use an http:// or https:// proxy")
    return cluster.server.rstrip("/")


def _cluster_tls(source: Source, cluster: Cluster) -> ssl.SSLContext:
    authority = source.text(
        "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
    )
    if not cluster.insecure_skip_tls_verify:
        return _tls(source, authority)
    if authority:
        source.fail("insecure-skip-tls-verify", "set beside a certificate-authority; remove one of the two")
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _tls(source: Source, authority: str) -> ssl.SSLContext:
    """Return a context that trusts this authority (PEM), or those of the system if there is none."""
    try:
        return ssl.create_default_context(cadata=authority or None)
    except (ssl.SSLError, ValueError) as error:
        source.fail("certificate-authority", f"no PEM certificate: {error}; replace it by the cluster's CA")


def _load_certificate(source: Source, user: User, tls: ssl.SSLContext | None) -> None:
    certificate = source.text("client-certificate", user.client_certificate_data, user.client_certificate)
    key = source.text("client-key", user.client_key_data, user.client_key)
    if bool(certificate) != bool(key):
        source.fail(
            "client-key" if certificate else "client-certificate", "missing; a certificate needs both"
        )
    if certificate and tls is not None:
        load_client_certificate(tls, certificate, key, f"{source.file}: {source.entry}")


def _credentials(
    source: Source, user: User, tls: ssl.SSLContext | None, cluster: Mapping[str, object]
) -> Credentials:
    """Return what authenticates a user; of several, in the order in which client-go prefers them."""
    if user.auth_provider is not None:
        source.fail("auth-provider", "removed from kubectl 1.26; use an exec plugin")
    if user.impersonated is not None:
        source.fail("as", "impersonation is not supported; use a user that has the rights itself")
    if user.token_file:
        return TokenFile(source.path(user.token_file))
    if user.token:
        return FixedHeaders(f"Bearer {user.token}")
    if user.username:
        pair = base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
        return FixedHeaders(f"Basic {pair}")
    if user.exec is not None:
        return ExecPlugin(_plugin(source, user.exec, cluster), tls)
    return FixedHeaders()


def _plugin(source: Source, command: Exec, cluster: Mapping[str, object]) -> PluginCommand:
    if command.api_version not in _EXEC_VERSIONS:
        source.fail("exec.apiVersion", f"{command.api_version!r} is none of {', '.join(_EXEC_VERSIONS)}")
    if command.interactive_mode == "Always":
        source.fail("exec.interactiveMode", "Always needs a terminal, which a component does not have")
    program = command.command
    return PluginCommand(
        command=str(source.path(program)) if "/" in program else program,
        arguments=command.args or (),
        environment={variable.name: variable.value for variable in command.env or ()},
        api_version=command.api_version,
        install_hint=" ".join(command.install_hint.split()),
        cluster=cluster if command.provide_cluster_info else None,
        source=f"{source.file}: {source.entry}.exec",
    )


def _cluster_info(source: Source, cluster: Cluster) -> dict[str, object]:
    """Return the description of the cluster for an exec plugin: ExecCredential.spec.cluster."""
    authority = source.text(
        "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
    )
    values: dict[str, object] = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(authority.encode()).decode(),
        "proxy-url": cluster.proxy_url,
        "config": next((e.extension for e in cluster.extensions or () if e.name == _EXEC_EXTENSION), None),
    }
    return {name: value for name, value in values.items() if value}
