"""Strategy of Pods: their initial status, their QoS class and the `binding` subresource.

Like registry/core/pod/{strategy.go,storage/storage.go} and apis/core/v1/helper/qos. The scheduler controller
chooses the node; the kubelet writes the status from then on.
"""

from typing import Any, Final

from localkube.apiserver.errors import conflict
from localkube.apiserver.resources import Object, Resource

_BINDING: Final = Resource("", "v1", "pods/binding", "Binding", namespaced=True)
_COMPUTE: Final = ("cpu", "memory")


def initial_status(pod: Object, time: str) -> Object:
    """Return the status of a new Pod: Pending, and PodScheduled=False when it has scheduling gates."""
    spec = pod.get("spec") or {}
    status: Object = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": None,
                "lastTransitionTime": time,
            }
        ]
    return status


def qos_class(spec: Object) -> str:
    """Return the QoS class: Guaranteed if limits equal requests, BestEffort without both, else Burstable."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    resources = [_compute(container) for container in containers]
    if not any(requests or limits for requests, limits in resources):
        return "BestEffort"
    guaranteed = all(
        set(limits) == set(_COMPUTE)
        and all(str(requests.get(key, limits[key])) == str(limits[key]) for key in limits)
        for requests, limits in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _compute(container: Object) -> tuple[Object, Object]:
    resources = container.get("resources") or {}

    def compute_only(kind: str) -> Object:
        return {
            key: value
            for key, value in (resources.get(kind) or {}).items()
            if key in _COMPUTE and str(value) != "0"
        }

    return compute_only("requests"), compute_only("limits")


def bind(pod: Object, binding: Object, time: str) -> Object:
    """Return the Pod assigned to the node of a binding, with the binding's annotations.

    Raises ApiError 409 when it is being deleted, is already assigned or has scheduling gates.
    """
    name, spec = pod["metadata"]["name"], pod["spec"]
    if "deletionTimestamp" in pod["metadata"]:
        raise conflict(_BINDING, name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict(_BINDING, name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise conflict(_BINDING, name, f"pod {name} has non-empty .spec.schedulingGates")
    annotations = (binding.get("metadata") or {}).get("annotations") or {}
    meta = pod["metadata"]
    if annotations:
        meta = {**meta, "annotations": {**meta.get("annotations", {}), **annotations}}
    status = pod.get("status") or {}
    return {
        **pod,
        "metadata": meta,
        "spec": {**spec, "nodeName": binding["target"]["name"]},
        "status": {**status, "conditions": _scheduled(status.get("conditions") or [], time)},
    }


def _scheduled(conditions: list[Any], time: str) -> list[Any]:
    condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": time}
    return [*(each for each in conditions if each.get("type") != "PodScheduled"), condition]
