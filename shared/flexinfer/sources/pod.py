"""The parts of a Pod that an engine and the Job before it have in common: same mounts, same node, same tolerations. Pure.

All values are plain JSON of the Kubernetes API. A check is worth something only if its Job sees what the engine will see.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

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
from flexinfer.api.podspec import Toleration
from flexinfer.sources import inert
from flexinfer.sources.base import MOUNT, Location, Volume

Json = dict[str, Any]
WEIGHTS = "weights"
TOKEN_SECRET = "hf-token"  # noqa: S105 -- its name
"""The Secret of a hub's token where the spec names none."""
_TOKEN, _TOKEN_MOUNT = "hub-token", "/var/run/secrets/flexinfer.ai/hub"
_AUTHORITIES, _AUTHORITIES_MOUNT = "authorities", "/var/run/flexinfer.ai/authorities"
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
PROGRESS_PORT = 8082
"""Where a download says how far it is."""
UNPRIVILEGED = 65532
"""The user and group of what needs no root: those of our own images, and of distroless ones."""


class Hub(msgspec.Struct, frozen=True, kw_only=True):
    """How hub and registry are reached: their addresses, the proxy of a network that has no other way out, whom to trust; empty: as by default."""

    endpoint: str = ""
    registry: str = ""
    proxy: str = ""
    no_proxy: str = ""
    authorities: str = ""
    """Name of a ConfigMap with the certificates of the authorities that are trusted."""


class PodDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings of a cluster give to the Pods of Models that do not name it themselves."""

    pull_secrets: tuple[str, ...] = ()
    runtime_class: str = ""


def owner(model: Model) -> Json:
    """Return the owner reference that has an object deleted with its Model."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": model.metadata.name,
        "uid": model.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def labels(model: Model, component: str, manager: str) -> dict[str, str]:
    """Return the labels of an object that a Model owns; `component` is its role."""
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
    """Return what keeps a Pod on the Model's node; `nodeName` would bypass the scheduler and is never set."""
    node = model.assigned_node
    ours = [dict(toleration) for toleration in TOLERATIONS] if model.spec.devices else []
    tolerations = [*ours, *(_toleration(toleration) for toleration in model.spec.tolerations)]
    spec: Json = {"tolerations": tolerations} if tolerations else {}
    if model.spec.node_selector:
        spec["nodeSelector"] = dict(model.spec.node_selector)
    if node:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        }
    return spec


def runs(model: Model, defaults: PodDefaults, device_class: str = "") -> Json:
    """Return with what a Pod's images are pulled, and which container runtime runs it.

    What the Model names wins over `device_class`, the RuntimeClass by which its placement gives it devices, and over the settings.
    """
    secrets = [secret.name for secret in model.spec.image_pull_secrets] or defaults.pull_secrets
    runtime = model.spec.runtime_class_name or device_class or defaults.runtime_class
    return {
        **({"imagePullSecrets": [{"name": name} for name in secrets]} if secrets else {}),
        **({"runtimeClassName": runtime} if runtime else {}),
    }


def _toleration(toleration: Toleration) -> Json:
    """Return a toleration of the spec as a Pod has it."""
    body: Json = msgspec.to_builtins(toleration)
    return body


def security(*, root: bool = False, writes: bool = False) -> Json:
    """Return a Pod's security context: what Pod Security calls `restricted`, or `baseline` for what must be root.

    What writes to a PVC owns it by group, since a new volume belongs to root; what only reads leaves the owner of a user's files as it is.
    """
    context: Json = {"seccompProfile": {"type": "RuntimeDefault"}}
    if not root:
        context |= {"runAsNonRoot": True, "runAsUser": UNPRIVILEGED, "runAsGroup": UNPRIVILEGED}
    return context | ({"fsGroup": UNPRIVILEGED, "fsGroupChangePolicy": "OnRootMismatch"} if writes else {})


def volumes(location: Location) -> list[Json]:
    """Return the volume that holds the weights, if they are on one."""
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
    """Return the mount of the weights; only what downloads may write."""
    if location.volume is Volume.NOTHING:
        return []
    mount: Json = {"name": WEIGHTS, "mountPath": MOUNT}
    return [mount if writable else mount | {"readOnly": True}]


def fetch_container(model: Model, location: Location, image: str, hub: Hub, *, lists: bool = False) -> Json:
    """Return the container that downloads weights into their folder, or lists their files and has no folder."""
    selection = msgspec.json.encode(location.files).decode()
    registry = ["--registry", hub.registry] if hub.registry else []
    return {
        "name": "fetch",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "flexinfer.prefetcher.download"],
        "args": [
            *("--files", inert.text(selection), "--into", inert.text(location.path)),
            *("--progress-port", str(PROGRESS_PORT)),
            *(["--list"] if lists else []),
            *registry,
            *_secret_arguments(model, location),
        ],
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT, "protocol": "TCP"}],
        "env": _environment(hub),
        "volumeMounts": [
            *([] if lists else mounts(location, writable=True)),
            *(
                [{"name": _TOKEN, "mountPath": _TOKEN_MOUNT, "readOnly": True}]
                if _secret(model, location)
                else []
            ),
            *(
                [{"name": _AUTHORITIES, "mountPath": _AUTHORITIES_MOUNT, "readOnly": True}]
                if hub.authorities
                else []
            ),
        ],
        "terminationMessagePath": REPORT_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": _fetch_resources(location),
        "securityContext": dict(HARDENED),
    }


def fetch_volumes(model: Model, location: Location, hub: Hub) -> list[Json]:
    """Return the volumes that a download needs besides the weights': the token and the authorities, as files.

    Secret and ConfigMap may be missing: the program says so at once, where a Pod would only wait for them.
    """
    secret = _secret(model, location)
    source = {"secretName": secret, "optional": True, "defaultMode": 0o444}
    authorities = {"name": hub.authorities, "optional": True, "defaultMode": 0o444}
    return [
        *([{"name": _TOKEN, "secret": source}] if secret else []),
        *([{"name": _AUTHORITIES, "configMap": authorities}] if hub.authorities else []),
    ]


def _secret(model: Model, location: Location) -> str:
    """Return the name of the Secret with the token; a hub's own is not for registries."""
    secret = model.spec.source_secret_ref.name if model.spec.source_secret_ref is not None else ""
    default = TOKEN_SECRET if location.files is not None and not location.files.registry else ""
    return secret or default


def _secret_arguments(model: Model, location: Location) -> list[str]:
    secret = _secret(model, location)
    required = model.spec.source_secret_ref is not None and bool(model.spec.source_secret_ref.name)
    arguments = ["--secret", secret, "--secret-folder", _TOKEN_MOUNT] if secret else []
    return [*arguments, *(["--secret-required"] if required else [])]


def _fetch_resources(location: Location) -> Json:
    """Return requests and limits, without which a quota admits no Pod; what is written to memory counts against a limit on it."""
    resources: Json = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2"}}
    if location.volume is not Volume.MEMORY:
        resources["limits"]["memory"] = "1Gi"
    return resources


def _environment(hub: Hub) -> list[Json]:
    variables: list[Json] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "HF_HUB_DISABLE_XET", "value": "1"},
        {"name": "HF_HUB_DISABLE_TELEMETRY", "value": "1"},
        {"name": "HF_HUB_DISABLE_PROGRESS_BARS", "value": "1"},
        {"name": "HF_HUB_DISABLE_UPDATE_CHECK", "value": "1"},
    ]
    optional = {
        "HF_ENDPOINT": hub.endpoint,
        "HTTP_PROXY": hub.proxy,
        "HTTPS_PROXY": hub.proxy,
        "NO_PROXY": hub.no_proxy,
        "SSL_CERT_FILE": f"{_AUTHORITIES_MOUNT}/ca.crt" if hub.authorities else "",
    }
    return [*variables, *({"name": name, "value": value} for name, value in optional.items() if value)]
