"""Furnish: what a real API server must hold before node and services start on it. Our local API sets itself up.

Definitions, ServiceAccounts, rights, policies and Services are those of `deploy/install.yaml`, so that services have here the very rights
that they have in a cluster; what runs there as a Pod runs here as a process and is left out. All is written anew at every start of
`up`, by server-side apply: a release that brings another definition brings it here too.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import yaml

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.local import bus
from flexinfer.local.instance import Instance, write_private
from flexinfer.local.kubeconfig import kubeconfig
from flexinfer.local.kubernetes import plane
from flexinfer.local.supervisor.asking import Answer, ask

Object: TypeAlias = dict[str, Any]
MANAGER = "flexinfer-local"
ELSEWHERE = frozenset({"Deployment", "DaemonSet", "StatefulSet", "Job", "ConfigMap"})
"""What `up` runs as processes, and what only those Pods read."""
_TOKEN_SECONDS = 365 * 24 * 3600
_PAUSE_SECONDS = 0.1
_TOLD_EVERY = 50
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


class NotYetError(Exception):
    """The API server does not take something yet; the message is its own."""


async def furnished(instance: Instance, tell: Callable[[str], None]) -> None:
    """Write everything and return once it holds; an API server that does not answer, or refuses, is asked again for ever."""
    tries = 0
    while True:
        try:
            await _furnish(instance)
        except (OSError, TimeoutError, NotYetError) as error:
            tries += 1
            if tries % _TOLD_EVERY == 0:
                tell(f"  {instance.world} API: {error}")
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


async def _furnish(instance: Instance) -> None:
    wanted = list(objects())
    for obj in wanted:
        await _apply(instance, obj)
    for obj in wanted:
        if obj["kind"] == "CustomResourceDefinition":
            await _established(instance, obj["metadata"]["name"])
    for service in bus.SERVICES:
        token = await _token(instance, service)
        content = kubeconfig(instance, service, {"token": token})
        write_private(plane.kubeconfig(instance, service), content)


def objects() -> Iterator[Object]:
    """Yield what is to be there, namespaces and definitions first."""
    for obj in filter(None, yaml.safe_load_all(_manifests())):
        if obj["kind"] not in ELSEWHERE:
            yield obj
    meta, rights = {"name": _VOLUMES_ROLE}, "rbac.authorization.k8s.io"
    yield {"apiVersion": f"{rights}/v1", "kind": "ClusterRole", "metadata": meta, "rules": _VOLUMES_RULES}
    yield {
        "apiVersion": f"{rights}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": rights, "kind": "ClusterRole", "name": _VOLUMES_ROLE},
        "subjects": [{"apiGroup": rights, "kind": "User", "name": plane.VOLUMES_USER}],
    }


def _manifests() -> str:
    """Return the manifests: inside the package when installed from a wheel, in the repository's deploy/ otherwise."""
    packaged = files("flexinfer.local") / "install.yaml"
    here = Path(__file__).resolve().parents[4] / "deploy" / "install.yaml"
    return packaged.read_text() if packaged.is_file() else here.read_text()


async def _token(instance: Instance, service: str) -> str:
    """Ask for a token of a service's own account, good for a year: it is asked for anew at every start."""
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/flexinfer-{service}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": _TOKEN_SECONDS},
    }
    answer = await ask(instance, "POST", path, body)
    if answer.refused:
        raise NotYetError(f"token of {service}: {answer.object().get('message')}")
    return str(answer.object()["status"]["token"])


def path_of(obj: Mapping[str, Any]) -> str:
    """Return an object's path at an API server, by the rule that all kinds used here follow."""
    version, kind, meta = obj["apiVersion"], obj["kind"].lower(), obj["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    space = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    plural = kind[:-1] + "ies" if kind.endswith("y") else kind + ("es" if kind.endswith("s") else "s")
    return f"{root}{space}/{plural}/{meta['name']}"


async def _apply(instance: Instance, obj: Object) -> None:
    query = urlencode({"fieldManager": MANAGER, "force": "true"})
    _taken(await ask(instance, "PATCH", f"{path_of(obj)}?{query}", obj, content="apply-patch+yaml"), obj)


async def _established(instance: Instance, name: str) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    conditions = (await ask(instance, "GET", path)).object().get("status", {}).get("conditions", ())
    if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
        raise NotYetError(f"{name} is not established")


def _taken(answer: Answer, obj: Object) -> None:
    if answer.refused:
        said = answer.object().get("message") or f"HTTP {answer.status}"
        raise NotYetError(f"{obj['kind']} {obj['metadata']['name']}: {said}")
