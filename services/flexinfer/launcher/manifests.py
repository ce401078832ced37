"""The objects of a Model: one Pod while its engine runs, one Service always. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from flexinfer import backends, sources
from flexinfer.api.installation import PROXY_SERVICE, SYSTEM_NAMESPACE
from flexinfer.api.labels import (
    DEVICES_ANNOTATION,
    FETCHES_LABEL,
    GATE_PREFIX,
    GENERATION_ANNOTATION,
    LITELLM_PREFIX,
    SERVICE_LABELS_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TURN_LABEL,
)
from flexinfer.api.model import Model, ModelSpec
from flexinfer.api.placement import Placement
from flexinfer.api.podspec import Resources
from flexinfer.api.quantity import milli
from flexinfer.backends import Backend, Serving
from flexinfer.launcher import bind, engine_files, prompt_cache_pod
from flexinfer.launcher.digest import digest
from flexinfer.sources import Location, Volume, inert, pod

Json = dict[str, Any]
ENGINE = "engine"
GRACE_SECONDS = 30
STOP_SECONDS = GRACE_SECONDS + 30
"""How long after its deletion a Pod may exist before Ready says `Stopping`."""
_SHARES = 1_000_000
_NEVER_KILL = 86_400
"""Failures of the startup probe, one a second, before the kubelet kills: never before the launcher's own loading deadline."""


class LaunchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of the settings concerns a start; times are seconds."""

    proxy_base_url: str = "http://flexinfer-proxy.flexinfer-system.svc"
    cluster_domain: str = "cluster.local"
    drain_seconds: float = 30.0
    loading_seconds: float = 600.0
    image: str = ""
    hub: pod.Hub = pod.Hub()
    pods: pod.PodDefaults = pod.PodDefaults()
    images: Mapping[str, str] = {}
    """Overrides of images: `vllm_amd` -> image."""


class Template(msgspec.Struct, frozen=True):
    """A Pod's spec and its digest, by which two are compared without the API server's defaults."""

    spec: Json
    digest: str
    fetches: bool = False
    """Whether its start downloads weights: network policies let no other Pod out."""
    files: Mapping[str, str] = {}
    """What the backend gives its engine as files; another text alone is no reason to restart it."""


def endpoint(model: Model, settings: LaunchSettings) -> str:
    """Return the proxy's address of a Model."""
    meta = model.metadata
    return f"{settings.proxy_base_url}/model/{meta.namespace}/{meta.name}/v1"


def gate(turn: int) -> str:
    """Return the scheduling gate of a turn."""
    return f"{GATE_PREFIX}{turn}"


def template(model: Model, settings: LaunchSettings) -> Template | None:
    """Return the Pod template of a Model on its placement; None if no backend or source can serve its spec."""
    backend, location = backends.find(model.spec.backend), sources.locate(model)
    if backend is None or location is None or backend.refuse(model.spec):
        return None  # also when Accepted does not say so yet
    spec = _pod_spec(model, backend, location, settings)
    fetches = bool(_init_containers(model, location, settings))
    basis = _pod_spec(_without_share(model), backend, location, settings)
    devices = bind.claimed(model)
    template_digest = digest([basis, *devices] if devices else basis)
    return Template(spec, template_digest, fetches, backend.files(serving(model, location.path)))


def _without_share(model: Model) -> Model:
    """Return a Model whose engine gets no share of the memory: another footprint alone is no reason to restart an engine."""
    placement = model.status.placement
    if placement is None or not any(device.total_mb for device in placement.devices):
        return model
    devices = tuple(msgspec.structs.replace(device, total_mb=0) for device in placement.devices)
    bare = msgspec.structs.replace(placement, devices=devices)
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, placement=bare))


def engine_pod(model: Model, turn: int, pod_template: Template) -> Json:
    """Return the Pod of one turn, created with the scheduling gate of that turn."""
    uuids = model.status.placement.uuids if model.status.placement is not None else ()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": model.pod_name,
            "namespace": model.metadata.namespace,
            "labels": pod.labels(model, ENGINE, "launcher")
            | ({FETCHES_LABEL: "true"} if pod_template.fetches else {})
            | {TURN_LABEL: str(turn)},
            "annotations": {
                TEMPLATE_ANNOTATION: pod_template.digest,
                GENERATION_ANNOTATION: str(model.metadata.generation),
                **({DEVICES_ANNOTATION: ",".join(uuids)} if uuids else {}),
                **engine_files.annotations(pod_template.files),
            },
            "ownerReferences": [pod.owner(model)],
        },
        "spec": {
            **pod_template.spec,
            **bind.pod_claims(model, model.pod_name),
            "schedulingGates": [{"name": gate(turn)}],
        },
    }


def service(model: Model, settings: LaunchSettings) -> Json:
    """Return the Model's Service: another name of the proxy, never a way past it."""
    spec = {
        "type": "ExternalName",
        "externalName": f"{PROXY_SERVICE}.{SYSTEM_NAMESPACE}.svc.{settings.cluster_domain}",
        "ports": [{"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP"}],
    }
    annotations = _litellm_annotations(model, settings)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": model.metadata.name,
            "namespace": model.metadata.namespace,
            "labels": pod.labels(model, "proxy", "launcher"),
            "annotations": annotations | {TEMPLATE_ANNOTATION: digest([annotations, spec])},
            "ownerReferences": [pod.owner(model)],
        },
        "spec": spec,
    }


def serving(model: Model, path: str) -> Serving:
    """Return a start of this Model as a backend sees it; `path` is where the weights are in the container.

    What the user wrote is inert in it: the kubelet replaces no `$(NAME)` there.
    """
    placement = model.status.placement
    vendor = placement.vendor if placement is not None and model.spec.devices else "cpu"
    return Serving(
        name=model.metadata.name,
        spec=inert.spec(model.spec),
        path=inert.text(path),
        vendor=vendor,
        architecture=placement.architecture if placement is not None else "",
        devices=model.spec.devices,
        memory_share=_memory_share(placement) if placement is not None else "",
        threads=_threads(model.spec),
    )


def _threads(spec: ModelSpec) -> int:
    """Return how many CPUs a Pod has: its limit, else its request, rounded down to at least 1; 0 if neither is stated."""
    resources = spec.resources or Resources()
    amount = resources.limits.get("cpu") or resources.requests.get("cpu")
    try:
        return max(1, milli(amount) // 1000) if amount else 0
    except ValueError:
        return 0  # refused by Accepted


def _memory_share(placement: Placement) -> str:
    """Return the part of the memory of each of its devices that a Model takes, rounded down; empty if that is not known."""
    devices = placement.devices
    if not devices or not all(device.memory_mb and device.total_mb for device in devices):
        return ""
    millionths = min(_SHARES * device.memory_mb // device.total_mb for device in devices)
    return f"{min(_SHARES, max(1, millionths)) / _SHARES:f}"


def _pod_spec(model: Model, backend: Backend, location: Location, settings: LaunchSettings) -> Json:
    init_containers = _init_containers(model, location, settings)
    keeps = backend.keeps_mb(model.spec)
    initial = [
        *init_containers,
        *([prompt_cache_pod.container(model, settings.image, keeps)] if keeps else []),
    ]
    return {
        **pod.where(model),
        **pod.runs(model, settings.pods, bind.runtime_class(model)),
        **({"initContainers": initial} if initial else {}),
        "containers": [_container(model, backend, location, settings)],
        "volumes": [
            *pod.volumes(location),
            *(pod.fetch_volumes(model, location, settings.hub) if init_containers else []),
            *_shared_memory(backend),
            *engine_files.volumes(backend.files(serving(model, location.path))),
        ],
        "securityContext": pod.security(
            root=backend.needs_root(serving(model, location.path).vendor), writes=bool(keeps)
        ),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never"
        if model.spec.group
        else "Always",  # a turn of a shared group opens one Pod, and that one once
        "terminationGracePeriodSeconds": GRACE_SECONDS,
    }


def _init_containers(model: Model, location: Location, settings: LaunchSettings) -> list[Json]:
    """Return the container that downloads the weights, where no volume keeps them between two starts."""
    if not location.fetched or location.volume is Volume.CLAIM:
        return []
    return [pod.fetch_container(model, location, settings.image, settings.hub)]


def _container(model: Model, backend: Backend, location: Location, settings: LaunchSettings) -> Json:
    start = serving(model, location.path)
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    probe = {"httpGet": {"path": backend.health, "port": "http"}, "timeoutSeconds": 1}
    container: Json = {
        "name": ENGINE,
        "image": model.spec.image or backend.image(start.vendor, settings.images, start.architecture),
        "imagePullPolicy": "IfNotPresent",
        "args": backend.command_line(start),
        "env": [
            address,
            *({"name": k, "value": v} for k, v in sorted(backend.environment(start).items())),
            *bind.variables(model),
            *(inert.variable(variable) for variable in model.spec.env),
        ],
        "ports": [{"name": "http", "containerPort": backend.port, "protocol": "TCP"}],
        "volumeMounts": [
            *pod.mounts(location),
            *_shared_memory_mount(backend),
            *engine_files.mounts(backend.files(start)),
            *([prompt_cache_pod.mount(model)] if backend.keeps_mb(model.spec) else []),
        ],
        "resources": bind.resources(model, start.vendor),
        "startupProbe": probe | {"periodSeconds": 1, "failureThreshold": _NEVER_KILL},
        "readinessProbe": probe | {"periodSeconds": 5, "failureThreshold": 3},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": dict(pod.HARDENED),
    }
    return container | ({"command": list(backend.command)} if backend.command else {})


def _shared_memory(backend: Backend) -> list[Json]:
    size = backend.shared_memory
    return [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}] if size else []


def _shared_memory_mount(backend: Backend) -> list[Json]:
    return [{"name": "shm", "mountPath": "/dev/shm"}] if backend.shared_memory else []  # noqa: S108


def _litellm_annotations(model: Model, settings: LaunchSettings) -> dict[str, str]:
    """Return the annotations by which a LiteLLM proxy finds the Model."""
    labels, lite = model.spec.service_labels, model.spec.litellm
    annotations = {SERVICE_LABELS_ANNOTATION: ",".join(labels)} if labels else {}
    if lite is None or not lite.enabled:
        return annotations
    model_name = lite.served_model_name or model.metadata.name
    aliases = sorted({*labels, *lite.aliases} - {model_name})
    values = {
        "served-model": model_name,
        "api-base": endpoint(model, settings),
        "aliases": ",".join(aliases),
        "copilot-model": lite.copilot_alias or "",
    }
    return annotations | {f"{LITELLM_PREFIX}/{name}": value for name, value in values.items() if value}
