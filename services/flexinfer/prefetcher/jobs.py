"""Manifests of the prefetcher's Jobs and of the PVC for a Model's cache. Pure.

A Job mounts what the engine will mount, on the engine's node, with its tolerations, and requests no GPU.
"""

from typing import Any

from flexinfer.api.labels import FETCHES_LABEL, RECLAIM_LABEL, SOURCE_ANNOTATION
from flexinfer.api.model import Model
from flexinfer.events.workload import FINGERPRINT_ANNOTATION
from flexinfer.prefetcher import room
from flexinfer.prefetcher.plan import CHECK, FETCH, LIST, Plan, PrefetchSettings
from flexinfer.sources import MOUNT, Location, Volume, fetched, inert, pod

Json = dict[str, Any]
ONE_NODE = "ReadWriteOnce"
"""The access mode that every StorageClass offers; which others one has, it does not say."""
VERIFY = "verify"
INSIDE = "--inside="
"""As `check.INSIDE`: that module reads files."""
CHECK_SECONDS, FETCH_SECONDS = 300, 24 * 3600
"""Deadline of a Job in seconds; a download without progress ends itself long before."""
_MIB, _KEEPER_MIB = 2**20, 64
"""The program that keeps files in memory takes 64 MiB itself."""
_FIND = (
    'if [ -e "$1" ]; then echo "{\\"found\\": true}"; '
    'else echo "{\\"reason\\": \\"SourceNotFound\\"}"; exit 3; fi'
)
"""Looks for a file in an engine's image with that image's own shell: no other process can read the image."""


def job(model: Model, plan: Plan, settings: PrefetchSettings) -> Json:
    """Return the Job of a plan."""
    check = plan.kind == CHECK
    container = (
        _check_container(plan)
        if check
        else pod.fetch_container(model, plan.location, settings.image, settings.hub, lists=plan.kind == LIST)
    )
    seconds = FETCH_SECONDS if plan.kind == FETCH else CHECK_SECONDS
    manifest = _job(model, plan.job_name(model), plan.kind, container, seconds)
    manifest["metadata"]["annotations"] = {
        FINGERPRINT_ANNOTATION: plan.fingerprint,
        SOURCE_ANNOTATION: model.spec.source,
    }
    template = manifest["spec"]["template"]
    if not check:
        template["metadata"]["labels"] = template["metadata"]["labels"] | {FETCHES_LABEL: "true"}
    template["spec"] |= {
        **plan.runs,
        "volumes": [
            *([] if plan.kind == LIST else pod.volumes(plan.location)),
            *([] if check else pod.fetch_volumes(model, plan.location, settings.hub)),
        ],
        "securityContext": pod.security(root=plan.root, writes=plan.kind == FETCH),
    }
    return manifest


def verification(model: Model, location: Location, image: str) -> Json:
    """Return the Job that reads downloaded weights again and compares them with their manifest."""
    container = _container(
        "verify", image, ["python", "-m", "flexinfer.prefetcher.verify"], [inert.text(location.path)]
    )
    container |= {"volumeMounts": pod.mounts(location)}
    manifest = _job(model, f"{model.metadata.name}-{VERIFY}", CHECK, container, FETCH_SECONDS)
    manifest["spec"]["template"]["spec"] |= {
        **pod.runs(model, pod.PodDefaults()),
        "volumes": pod.volumes(location),
        "securityContext": pod.security(),
    }
    return manifest


def keeping(model: Model, plan: Plan, size: int, image: str) -> Json:
    """Return the Job that keeps weights of so many bytes in the page cache: what it requests is what the scheduler counts."""
    container = _container(
        "keep", image, ["python", "-m", "flexinfer.prefetcher.keep"], [inert.text(plan.location.path)]
    )
    memory = f"{-(-size // _MIB) + _KEEPER_MIB}Mi"
    container |= {
        "volumeMounts": pod.mounts(plan.location),
        "resources": {
            "requests": {"cpu": "10m", "memory": memory},
            "limits": {"cpu": "1", "memory": memory},
        },
    }
    manifest = _job(model, plan.job_name(model), plan.kind, container, None)
    manifest["metadata"]["annotations"] = {FINGERPRINT_ANNOTATION: plan.fingerprint}
    manifest["spec"]["template"]["spec"] |= {
        **plan.runs,
        "volumes": pod.volumes(plan.location),
        "securityContext": pod.security(),
    }
    return manifest


def _job(model: Model, name: str, component: str, container: Json, seconds: int | None) -> Json:
    """Return a Job on the Model's node, without volumes; it may run for so many seconds, None: without end."""
    labels = pod.labels(model, component, "prefetcher")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": model.metadata.namespace,
            "labels": labels,
            "ownerReferences": [pod.owner(model)],
        },
        "spec": {
            "backoffLimit": 0,  # when it runs again is decided in `retry`
            **({"activeDeadlineSeconds": seconds} if seconds is not None else {}),
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **pod.where(model),
                    "containers": [container],
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "restartPolicy": "Never",
                },
            },
        },
    }


def pvc(model: Model, name: str, files: int = room.UNKNOWN) -> Json:
    """Return the PVC for a Model's weights, of so many bytes; it has no owner reference: it stays when the Model is deleted."""
    cache = model.spec.cache
    size = cache.size if cache is not None and cache.size is not None else room.of_files(files)
    mode = (cache.access_mode if cache is not None else None) or ONE_NODE
    spec: Json = {"accessModes": [mode], "resources": {"requests": {"storage": size}}}
    if cache is not None and cache.storage_class:
        spec["storageClassName"] = cache.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": model.metadata.namespace,
            "labels": pod.labels(model, "cache", "prefetcher") | {RECLAIM_LABEL: fetched.reclaim(model.spec)},
        },
        "spec": spec,
    }


def _check_container(plan: Plan) -> Json:
    """Return the container that checks a path: in the engine's image if it is inside it, else in our own."""
    path = plan.location.path
    in_image = plan.location.volume is Volume.NOTHING
    command = (
        ["/bin/sh", "-c", _FIND, "check"] if in_image else ["python", "-m", "flexinfer.prefetcher.check"]
    )
    inside = [] if in_image else [f"{INSIDE}{MOUNT}"]
    return _container("check", plan.image, command, [*inside, *map(inert.text, (path, *plan.files))]) | {
        "volumeMounts": pod.mounts(plan.location)
    }


def _container(name: str, image: str, command: list[str], arguments: list[str]) -> Json:
    """Return a container that reads files, without mounts."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": arguments,
        "terminationMessagePath": pod.REPORT_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": dict(pod.HARDENED),
    }
