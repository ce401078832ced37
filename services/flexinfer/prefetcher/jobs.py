"""The Jobs and the claim that the prefetcher makes. Pure.

A Job mounts exactly what the engine will mount, on the engine's node, with its tolerations, and takes no GPU.
"""

from typing import Any

from flexinfer.api.labels import FETCHES_LABEL, SOURCE_ANNOTATION
from flexinfer.api.model import Model
from flexinfer.events.workload import FINGERPRINT_ANNOTATION
from flexinfer.prefetcher.plan import CHECK, Plan, PrefetchSettings
from flexinfer.sources import Volume, pod

Json = dict[str, Any]
DEFAULT_SIZE = "50Gi"
CHECK_SECONDS, FETCH_SECONDS = 300, 24 * 3600
"""How long a Job may take in all; a download that stalls fails much sooner by itself."""
FETCH_RETRIES = 2
LOOK = (
    'if [ -e "$1" ]; then echo "{\\"found\\": true}"; '
    'else echo "{\\"reason\\": \\"SourceNotFound\\"}"; exit 3; fi'
)
"""Looks for a file of an engine's image with that image's own shell: nothing else can see into it."""


def job(model: Model, plan: Plan, settings: PrefetchSettings) -> Json:
    """Return the Job of a plan."""
    check = plan.job == CHECK
    container = (
        _check(plan)
        if check
        else pod.fetch_container(model, plan.location, settings.image, settings.hf_endpoint)
    )
    labels = pod.labels(model, plan.job, "prefetcher")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": plan.name(model),
            "namespace": model.metadata.namespace,
            "labels": labels,
            "annotations": {
                FINGERPRINT_ANNOTATION: plan.digest,
                SOURCE_ANNOTATION: model.spec.source,
            },
            "ownerReferences": [pod.owner(model)],
        },
        "spec": {
            "backoffLimit": 0 if check else FETCH_RETRIES,
            "activeDeadlineSeconds": CHECK_SECONDS if check else FETCH_SECONDS,
            "template": {
                "metadata": {"labels": labels if check else labels | {FETCHES_LABEL: "true"}},
                "spec": {
                    **pod.where(model),
                    "containers": [container],
                    "volumes": pod.volumes(plan.location),
                    "securityContext": pod.security(root=plan.root, writes=not check),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "restartPolicy": "Never",
                },
            },
        },
    }


def claim(model: Model, name: str) -> Json:
    """Return the claim that keeps a Model's weights; it has no owner, so it stays when the Model goes."""
    cache = model.spec.cache
    size = cache.size if cache is not None and cache.size is not None else DEFAULT_SIZE
    spec: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if cache is not None and cache.storage_class:
        spec["storageClassName"] = cache.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": model.metadata.namespace,
            "labels": pod.labels(model, "cache", "prefetcher"),
        },
        "spec": spec,
    }


def _check(plan: Plan) -> Json:
    path = plan.location.path
    in_image = plan.location.volume is Volume.NOTHING
    command = ["/bin/sh", "-c", LOOK, "look"] if in_image else ["python", "-m", "flexinfer.prefetcher.check"]
    return {
        "name": "check",
        "image": plan.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": [path],
        "volumeMounts": pod.mounts(plan.location),
        "terminationMessagePath": pod.REPORT_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": dict(pod.HARDENED),
    }
