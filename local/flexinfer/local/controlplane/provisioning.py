"""Provisioning: creates the objects that a real API server needs before node and components start. The local one creates its own.

CRDs, ServiceAccounts, RBAC, policies and Services are those of `deploy/install.yaml`, so that the components have the rights that they
have in a cluster; what runs there as a Pod runs here as a process and is left out. Everything is applied again (server-side apply) at
every start of `up`: an upgrade brings its CRDs along.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.services import SERVICES
from flexinfer.local.controlplane import processes
from flexinfer.local.instance import Instance, InstanceError, write_private
from flexinfer.local.kubeconfig import kubeconfig
from flexinfer.local.storage import CLAIM, MODELS_CLAIM, NAMESPACE
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import CLAIMS, AlreadyExistsError, ApiError, Kind
from flexinfer.runtime.kubernetes.client import KubernetesClient
from localkube.yaml_documents import documents

Object: TypeAlias = dict[str, Any]
MANAGER = "flexinfer-local"
NOT_APPLIED = frozenset({"Deployment", "DaemonSet", "StatefulSet", "Job", "ConfigMap"})
"""Kinds that `up` replaces by processes, and those that only their Pods read."""
_TOKEN_SECONDS = 365 * 24 * 3600
_PAUSE_SECONDS = 0.1
_TRIES, _PAUSE = 50, 0.2
_REPORT_EVERY = 50
_VOLUMES_ROLE = "flexinfer:local-volumes"
_VOLUMES_RULES: list[Object] = [
    {
        "apiGroups": [""],
        "resources": ["persistentvolumeclaims"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["get", "create", "delete"]},
    {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["create"]},
]


class _Token(msgspec.Struct):
    token: str


class _TokenRequest(msgspec.Struct):
    status: _Token


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Conditions(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()


class _Definition(msgspec.Struct):
    status: _Conditions = _Conditions()


DEFINITIONS: Kind[_Definition] = Kind(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    _Definition,
    namespaced=False,
)


class NotYetError(Exception):
    """The API server does not serve a CRD yet."""


async def provision(instance: Instance, report: Callable[[str], None]) -> None:
    """Apply all objects and write the kubeconfigs; retries until the API server has accepted them. `report` gets errors."""
    tries = 0
    while True:
        try:
            await _apply_all(instance)
        except (ApiError, NotYetError) as error:
            tries += 1
            if tries % _REPORT_EVERY == 0:
                report(f"  {instance.api} API: {error}")
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


async def _apply_all(instance: Instance) -> None:
    manifests = list(objects())
    async with client.connected(str(instance.kubeconfig)) as api:
        for obj in manifests:
            namespace = obj["metadata"].get("namespace", "")
            await api.apply(kind_of(obj), namespace, obj, manager=MANAGER)
        for obj in manifests:
            if obj["kind"] == DEFINITIONS.name:
                await _established(api, obj["metadata"]["name"])
        for service in SERVICES:
            content = kubeconfig(instance, service, {"token": await _token(api, service)})
            write_private(processes.kubeconfig(instance, service), content)


def objects() -> Iterator[Object]:
    """Yield the objects to apply, namespaces and CRDs first."""
    for obj in documents(_manifests()):
        if obj["kind"] not in NOT_APPLIED:
            yield obj
    meta, rights = {"name": _VOLUMES_ROLE}, "rbac.authorization.k8s.io"
    yield {"apiVersion": f"{rights}/v1", "kind": "ClusterRole", "metadata": meta, "rules": _VOLUMES_RULES}
    yield {
        "apiVersion": f"{rights}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": rights, "kind": "ClusterRole", "name": _VOLUMES_ROLE},
        "subjects": [{"apiGroup": rights, "kind": "User", "name": processes.VOLUMES_USER}],
    }


def _manifests() -> str:
    """Return the manifests: inside the package when installed from a wheel, in the repository's deploy/ otherwise."""
    package_file = files("flexinfer.local") / "install.yaml"
    here = Path(__file__).resolve().parents[4] / "deploy" / "install.yaml"
    return package_file.read_text() if package_file.is_file() else here.read_text()


async def make_claim(instance: Instance) -> None:
    """Create the PVC of the first example unless it exists; waits for the API server a while. Raises InstanceError."""
    last: ApiError | None = None
    for _ in range(_TRIES):
        try:
            async with client.connected(str(instance.kubeconfig)) as api:
                await api.create(CLAIMS, NAMESPACE, MODELS_CLAIM)
        except AlreadyExistsError:
            return
        except ApiError as error:
            last = error
            await asyncio.sleep(_PAUSE)
        else:
            return
    raise InstanceError(
        f"the PVC {CLAIM} was not created: {last}; the API server's log is in {instance.logs}"
    )


async def _token(api: KubernetesClient, service: str) -> str:
    """Request a token of a service's own ServiceAccount, valid for a year; it is requested at every start."""
    subresource = f"serviceaccounts/flexinfer-{service}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": _TOKEN_SECONDS},
    }
    kind = Kind("v1", "TokenRequest", subresource, _TokenRequest)
    return (await api.create(kind, SYSTEM_NAMESPACE, body)).status.token


def kind_of(obj: Mapping[str, Any]) -> Kind[msgspec.Raw]:
    """Return an object's kind, with its plural by the rule that all kinds used here follow."""
    kind = obj["kind"].lower()
    plural = kind[:-1] + "ies" if kind.endswith("y") else kind + ("es" if kind.endswith("s") else "s")
    namespaced = "namespace" in obj["metadata"]
    return Kind(obj["apiVersion"], obj["kind"], plural, msgspec.Raw, namespaced=namespaced)


async def _established(api: KubernetesClient, name: str) -> None:
    definition = await api.get(DEFINITIONS, "", name)
    if not any(c.type == "Established" and c.status == "True" for c in definition.status.conditions):
        raise NotYetError(f"{name} is not established")
