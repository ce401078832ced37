"""Furnish: what a real API server must hold before node and services start on it. Our local API sets itself up.

It is written anew at every start of `up`, by server-side apply: a release that brings another definition brings it here too.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlencode

import yaml

from flexinfer.local.api.setting import crd_files
from flexinfer.local.instance import Instance
from flexinfer.local.kubernetes.plane import VOLUMES_USER
from flexinfer.local.supervisor.asking import Answer, ask

Object: TypeAlias = dict[str, Any]
MANAGER = "flexinfer-local"
NAMESPACE = "flexinfer-system"
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
    for obj in objects():
        await _apply(instance, obj)
    for definition in definitions():
        await _established(instance, definition["metadata"]["name"])


def objects() -> Iterator[Object]:
    """Yield what is to be there."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    yield from definitions()
    meta = {"name": _VOLUMES_ROLE}
    rights = "rbac.authorization.k8s.io"
    yield {"apiVersion": f"{rights}/v1", "kind": "ClusterRole", "metadata": meta, "rules": _VOLUMES_RULES}
    yield {
        "apiVersion": f"{rights}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": rights, "kind": "ClusterRole", "name": _VOLUMES_ROLE},
        "subjects": [{"apiGroup": rights, "kind": "User", "name": VOLUMES_USER}],
    }


def definitions() -> Iterator[Object]:
    """Yield our CustomResourceDefinitions."""
    for file in crd_files():
        yield from filter(None, yaml.safe_load_all(file.read_text()))


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
