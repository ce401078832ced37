"""Reads what the checks look at: one list a kind, and a review of this user's rights. Nothing is written."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from flexinfer.api.groupversion import GROUP, PLURAL
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.labels import PART_OF_LABEL
from flexinfer.cli import services
from flexinfer.cli.preflight import objects
from flexinfer.cli.preflight.view import ProcessState, View, pull_secrets
from flexinfer.local import instance
from flexinfer.local.instance import Instance, InstanceError
from flexinfer.runtime.kubernetes.api import (
    CLAIMS,
    MODELS,
    RESOURCE_SLICES,
    STORAGE_CLASSES,
    Cluster,
    ForbiddenError,
    Kind,
    NotFoundError,
    get_or_none,
)
from localkube import files

T = TypeVar("T")
_OURS = f"{PART_OF_LABEL}=flexinfer"
_VERBS = ("get", "list", "create", "patch", "delete")


async def view(api: Cluster, namespace: str, own: Instance | None) -> View:
    """Return what is known of a cluster, or of an instance whose API it is. Raises ApiError if the API server does not answer."""
    system = SYSTEM_NAMESPACE
    result = View(
        namespace=namespace,
        local=own is not None,
        processes=await _processes(own) if own is not None else (),
        unwritable=_unwritable(own) if own is not None else "",
        rights=await _lacking(api, namespace),
        definitions=await _listed(api, objects.DEFINITIONS),
        storage_classes=await _listed(api, STORAGE_CLASSES),
        runtime_classes=await _listed(api, objects.RUNTIME_CLASSES),
        nodes=await _listed(api, objects.NODES),
        slices=await _listed(api, RESOURCE_SLICES),
        models=await _listed(api, MODELS),
        claims=await _listed(api, CLAIMS, system),
        workloads=await _workloads(api),
        pods=await _listed(api, objects.PODS),
        config_maps=await _listed(api, objects.CONFIG_MAPS, system),
    )
    return msgspec.structs.replace(result, secrets=await _secrets(api, result))


def instance_of(kubeconfig: str) -> Instance | None:
    """Return the instance whose components are processes of this machine and whose API server a kubeconfig names; None if it names another."""
    path = Path(kubeconfig)
    with contextlib.suppress(InstanceError, OSError):
        own = instance.load(path.parent)
        return own if own.kubeconfig.resolve() == path.resolve() and own.api != instance.PLANE else None
    return None


def _unwritable(own: Instance) -> str:
    problem = files.problem(own.state)
    return f"{own.state}: {problem}" if problem else ""


async def _processes(own: Instance) -> Sequence[ProcessState]:
    return [ProcessState(row.name, row.health, row.reason) for row in await services.rows(own)]


async def _listed(api: Cluster, kind: Kind[T], namespace: str = "", labels: str = "") -> Sequence[T] | None:
    """Return the objects of a kind; none where it is not served, None where this user may not list it."""
    try:
        return (await api.list(kind, namespace, labels=labels)).items
    except NotFoundError:
        return ()
    except ForbiddenError:
        return None


async def _workloads(api: Cluster) -> Sequence[objects.Workload] | None:
    """Return the workloads of the components; None where one of the kinds may not be listed."""
    kinds = (objects.DEPLOYMENTS, objects.DAEMON_SETS, objects.STATEFUL_SETS)
    lists = await asyncio.gather(*(_listed(api, kind, SYSTEM_NAMESPACE, _OURS) for kind in kinds))
    readable = [items for items in lists if items is not None]
    return [one for items in readable for one in items] if len(readable) == len(kinds) else None


async def _lacking(api: Cluster, namespace: str) -> Sequence[str] | None:
    """Return the verbs that this user may not use on Models; None where the API server has no rights to ask for."""
    lacking = []
    for verb in _VERBS:
        attributes = {"namespace": namespace, "verb": verb, "group": GROUP, "resource": PLURAL}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        try:
            review = await api.create(objects.REVIEWS, "", body)
        except NotFoundError:
            return None
        lacking += [] if review.status.allowed else [verb]
    return lacking


async def _secrets(api: Cluster, view: View) -> dict[tuple[str, str], bool | None]:
    """Return whether each pull Secret that is needed exists; None where that may not be read."""
    keys = pull_secrets(view.models or (), view.settings, view.namespace)
    return {key: await _exists(api, *key) for key in sorted(keys)}


async def _exists(api: Cluster, namespace: str, name: str) -> bool | None:
    try:
        return await get_or_none(api, objects.SECRETS, namespace, name) is not None
    except ForbiddenError:
        return None
