"""What commands talk to: the API server, NATS and the proxy, of an instance on this machine or, with --context, of a cluster.

In a cluster NATS and the proxy are reached by a port-forward that ends with the command, with the credentials of the Secrets that the
installation makes. No more than these two Secrets and Services is read.
"""

import argparse
import asyncio
import base64
import binascii
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from flexinfer.api.conditions import one_line
from flexinfer.api.installation import CLIENT_ROLE, PROXY_SERVICE, SYSTEM_NAMESPACE
from flexinfer.api.model import Model
from flexinfer.api.nearest import nearest
from flexinfer.cli import port_forward
from flexinfer.cli.errors import CommandError
from flexinfer.cli.port_forward import HOST, PortForward
from flexinfer.cli.target import context_of, kubeconfig, variable
from flexinfer.credentials.secrets import API_KEY_FILE, API_KEY_SECRET, SECRETS, SERVER, secret_of
from flexinfer.events.permissions import TAP
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import (
    MODELS,
    SERVICES,
    ApiError,
    Cluster,
    ForbiddenError,
    NotFoundError,
)

HTTP_PORT, CLIENT_PORT = "http", "client"
"""Names of the ports of the Services."""
_UNAUTHORIZED = 401


class NatsServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where NATS is, and how to authenticate; `url` holds the credentials if there are no files."""

    url: str
    user: str = ""
    password_file: str = ""
    ca_file: str = ""
    server_name: str = ""
    remedy: str = "is `flexinfer up` running?"
    """What to do if it does not answer."""
    forward: PortForward | None = None
    """The way there, which may end."""


class ProxyServer(msgspec.Struct, frozen=True):
    """Where OpenAI's API is, and the key."""

    base_url: str
    key: str


def api(options: argparse.Namespace) -> contextlib.AbstractAsyncContextManager[client.KubernetesClient]:
    """Open the Kubernetes API. Raises ApiError, InstanceError."""
    return client.connected(kubeconfig(options), context=context_of(options))


async def model_of(api: Cluster, namespace: str, name: str) -> Model:
    """Return the Model that a command names. Raises CommandError if there is none, ApiError."""
    try:
        return await api.get(MODELS, namespace, name)
    except NotFoundError as error:
        raise CommandError(
            f"Model {name!r} not found in namespace {namespace}; {await _suggestion(api, namespace, name)}"
            "`kubectl get mdl -A` lists all Models"
        ) from error


async def _suggestion(api: Cluster, namespace: str, name: str) -> str:
    """Return which Model was probably meant: one of that name elsewhere, or one of a similar name here; empty if it cannot be known."""
    try:
        keys = [model.key for model in (await api.list(MODELS)).items]
    except ApiError:
        return ""
    meant = name.removeprefix("mdl/").lower()
    for key in (meant, f"{namespace}/{meant}", *sorted(k for k in keys if k.endswith(f"/{meant}"))):
        if key in keys:
            its_namespace, _, its_name = key.partition("/")
            return f"did you mean {its_name} -n {its_namespace}? "
    near = nearest(meant, [key.partition("/")[2] for key in keys if key.startswith(f"{namespace}/")])
    return f"did you mean {near}? " if near else ""


@contextlib.contextmanager
def nats(options: argparse.Namespace) -> Iterator[NatsServer]:
    """Yield NATS, with the credentials of the user who may read. Raises CommandError, ApiError."""
    context = context_of(options)
    if not context:
        yield NatsServer(url=variable("NATS_URL", options))
        return
    data = _prepared(options, SERVER, secret_of(TAP), ("password", "ca.crt"))
    with tempfile.TemporaryDirectory() as folder, _forwarded(options, SERVER, CLIENT_PORT) as forward:
        for name, content in data.items():
            Path(folder, name).write_bytes(content)
        yield NatsServer(
            url=f"tls://{HOST}:{forward.port}",
            user=TAP,
            password_file=str(Path(folder, "password")),
            ca_file=str(Path(folder, "ca.crt")),
            server_name=SERVER,
            remedy=f"`kubectl --context {context} -n {SYSTEM_NAMESPACE} get pods` shows whether it runs",
            forward=forward,
        )


@contextlib.contextmanager
def proxy(options: argparse.Namespace) -> Iterator[ProxyServer]:
    """Yield the proxy and its key. Raises CommandError, ApiError."""
    if not context_of(options):
        yield ProxyServer(variable("OPENAI_BASE_URL", options), variable("OPENAI_API_KEY", options))
        return
    data = _prepared(options, PROXY_SERVICE, API_KEY_SECRET, (API_KEY_FILE,))
    with _forwarded(options, PROXY_SERVICE, HTTP_PORT) as forward:
        key = data[API_KEY_FILE].decode(errors="replace").strip()
        yield ProxyServer(f"http://{HOST}:{forward.port}/v1", key)


def _forwarded(
    options: argparse.Namespace, service: str, port: str
) -> contextlib.AbstractContextManager[PortForward]:
    context = context_of(options)
    words = port_forward.command(service, port, context=context, kubeconfig=options.kubeconfig or "")
    return port_forward.opened(words, service, context)


def _prepared(
    options: argparse.Namespace, service: str, secret: str, keys: tuple[str, ...]
) -> dict[str, bytes]:
    """Return what a Secret holds under these keys, once it and the Service are seen to exist. Raises CommandError, ApiError."""
    return asyncio.run(_look(options, service, secret, keys))


async def _look(
    options: argparse.Namespace, service: str, secret: str, keys: tuple[str, ...]
) -> dict[str, bytes]:
    context = context_of(options)
    async with api(options) as cluster:
        with _in_words(f"Service {service}", context):
            await cluster.get(SERVICES, SYSTEM_NAMESPACE, service)
        return await _data(cluster, secret, keys, context)


async def _data(cluster: Cluster, name: str, keys: tuple[str, ...], context: str) -> dict[str, bytes]:
    with _in_words(f"Secret {name}", context):
        secret = await cluster.get(SECRETS, SYSTEM_NAMESPACE, name)
    try:
        return {key: base64.b64decode(secret.data[key]) for key in keys}
    except (KeyError, binascii.Error) as error:
        raise CommandError(
            f"Secret {name} in {SYSTEM_NAMESPACE} of context {context} lacks {' or '.join(keys)}; delete it and apply the manifests again"
        ) from error


@contextlib.contextmanager
def _in_words(what: str, context: str) -> Iterator[None]:
    """Turn the API server's refusals into one sentence with the remedy. Raises CommandError."""
    try:
        yield
    except NotFoundError as error:
        raise CommandError(
            f"{SYSTEM_NAMESPACE} of context {context} has no {what}: FlexInfer is not installed there, or not completely; "
            "`kubectl apply -k deploy/` installs it"
        ) from error
    except ForbiddenError as error:
        if error.code == _UNAUTHORIZED:
            raise CommandError(
                f"the credentials of context {context} are not accepted ({one_line(str(error))}); log in to that cluster again"
            ) from error
        raise CommandError(
            f"the user of context {context} may not read {what} in {SYSTEM_NAMESPACE} ({one_line(str(error))}); "
            f"an administrator of the cluster can bind the Role {CLIENT_ROLE} to this user"
        ) from error
