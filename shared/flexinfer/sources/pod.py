"""The parts of a Pod that an engine and the Job before it have in common: same mounts, same node, same tolerations.

Pure: plain JSON values of the Kubernetes API. A Job that sees what the engine will see is the only honest check.
"""

import json
from collections.abc import Mapping
from typing import Any

from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.labels import (
    COMPONENT_LABEL,
    INSTANCE_LABEL,
    MANAGED_BY_LABEL,
    MODEL_LABEL,
    MODEL_UID_LABEL,
    NAME_LABEL,
    PART_OF_LABEL,
)
from flexinfer.api.model import Model
from flexinfer.sources import hf
from flexinfer.sources.base import MOUNT, Location, Volume

Json = dict[str, Any]
WEIGHTS = "weights"
TOKEN_SECRET, TOKEN_KEY = "hf-token", "HF_TOKEN"
REPORT_PATH = "/dev/termination-log"
TOLERATIONS: tuple[Json, ...] = (
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
)
HARDENED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
NOBODY = 65532
"""Who runs what needs not be root: the user of our own images, and of distroless ones."""


def owner(model: Model) -> Json:
    """Return the reference that makes an object go with its Model."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": model.metadata.name,
        "uid": model.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def labels(model: Model, component: str, manager: str) -> dict[str, str]:
    """Return the labels of a child; `component` says what it is for."""
    return {
        MODEL_LABEL: model.metadata.name,
        MODEL_UID_LABEL: model.uid,
        NAME_LABEL: "flexinfer",
        INSTANCE_LABEL: model.metadata.name,
        COMPONENT_LABEL: component,
        PART_OF_LABEL: "flexinfer",
        MANAGED_BY_LABEL: f"flexinfer-{manager}",
    }


def where(model: Model) -> Json:
    """Return what holds a Pod to the Model's home; `nodeName` would bypass the scheduler and is never set."""
    node = model.status.placement.node if model.status.placement else ""
    made: Json = {"tolerations": [dict(t) for t in TOLERATIONS]} if model.spec.devices else {}
    if model.spec.node_selector:
        made["nodeSelector"] = dict(model.spec.node_selector)
    if node:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        made["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        }
    return made


def security(*, root: bool = False, writes: bool = False) -> Json:
    """Return a Pod's security: what Pod Security calls `restricted`, or `baseline` for what must be root.

    What writes to a claim owns it by group, since a fresh volume is root's; who only reads leaves a user's files as they are.
    """
    made: Json = {"seccompProfile": {"type": "RuntimeDefault"}}
    if not root:
        made |= {"runAsNonRoot": True, "runAsUser": NOBODY, "runAsGroup": NOBODY}
    return made | ({"fsGroup": NOBODY, "fsGroupChangePolicy": "OnRootMismatch"} if writes else {})


def volumes(location: Location) -> list[Json]:
    """Return the volume that holds the weights, if they lie on one."""
    match location.volume:
        case Volume.NOTHING:
            return []
        case Volume.CLAIM:
            return [{"name": WEIGHTS, "persistentVolumeClaim": {"claimName": location.claim}}]
        case Volume.MEMORY:
            return [{"name": WEIGHTS, "emptyDir": {"medium": "Memory"}}]
        case Volume.DISK:
            return [{"name": WEIGHTS, "emptyDir": {}}]


def mounts(location: Location, *, writable: bool = False) -> list[Json]:
    """Return the mount of the weights; only what fetches may write."""
    if location.volume is Volume.NOTHING:
        return []
    mount: Json = {"name": WEIGHTS, "mountPath": MOUNT}
    return [mount if writable else mount | {"readOnly": True}]


def fetch_container(model: Model, location: Location, image: str, endpoint: str) -> Json:
    """Return the container that fetches a Hugging Face repository into its folder."""
    files = hf.files(model.spec)
    args = ["--repository", files.repository, "--into", location.path, "--fingerprint", files.fingerprint]
    args += ["--revision", files.revision] if files.revision else []
    for flag, patterns in (("--allow", files.allow), ("--ignore", files.ignore)):
        args += [flag, json.dumps(list(patterns))] if patterns else []
    return {
        "name": "fetch",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "flexinfer.prefetcher.fetch"],
        "args": args,
        "env": _environment(endpoint),
        "volumeMounts": mounts(location, writable=True),
        "terminationMessagePath": REPORT_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": dict(HARDENED),
    }


def _environment(endpoint: str) -> list[Json]:
    secret = {"name": TOKEN_SECRET, "key": TOKEN_KEY, "optional": True}
    made: list[Json] = [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}},
        {"name": "HF_HUB_DISABLE_XET", "value": "1"},
        {"name": "HF_HUB_DISABLE_TELEMETRY", "value": "1"},
        {"name": "HF_HUB_DISABLE_PROGRESS_BARS", "value": "1"},
        {"name": "HF_HUB_DISABLE_UPDATE_CHECK", "value": "1"},
    ]
    return [*made, {"name": "HF_ENDPOINT", "value": endpoint}] if endpoint else made
