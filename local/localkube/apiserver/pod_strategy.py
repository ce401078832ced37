"""What the API does with a Pod until a node has it: its first status, its quality of service, its gates, its binding.

Running it is the node's business; choosing a node for it the binding controller's.
"""

from typing import Any, Final

from localkube.apiserver.errors import conflict
from localkube.apiserver.resources import Object, Resource

_BINDING: Final = Resource("", "v1", "pods/binding", "Binding", namespaced=True)
_COMPUTE: Final = ("cpu", "memory")


def first_status(pod: Object, time: str) -> Object:
    """Return the status of a new Pod."""
    spec = pod.get("spec") or {}
    status: Object = {"phase": "Pending", "qosClass": quality(spec)}
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


def quality(spec: Object) -> str:
    """Return the class of a Pod: Guaranteed when each container's limits are its requests, BestEffort without any."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    asked = [_compute(container) for container in containers]
    if not any(requests or limits for requests, limits in asked):
        return "BestEffort"
    guaranteed = all(
        set(limits) == set(_COMPUTE)
        and all(str(requests.get(key, limits[key])) == str(limits[key]) for key in limits)
        for requests, limits in asked
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _compute(container: Object) -> tuple[Object, Object]:
    resources = container.get("resources") or {}

    def reduced(kind: str) -> Object:
        return {
            key: value
            for key, value in (resources.get(kind) or {}).items()
            if key in _COMPUTE and str(value) != "0"
        }

    return reduced("requests"), reduced("limits")


def bound(pod: Object, binding: Object, time: str) -> Object:
    """Return a Pod given to a node; ApiError 409 when it cannot be."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    if "deletionTimestamp" in pod["metadata"]:
        raise conflict(_BINDING, name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict(_BINDING, name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise conflict(_BINDING, name, f"pod {name} has non-empty .spec.schedulingGates")
    notes = (binding.get("metadata") or {}).get("annotations") or {}
    meta = pod["metadata"]
    if notes:
        meta = {**meta, "annotations": {**meta.get("annotations", {}), **notes}}
    status = pod.get("status") or {}
    return {
        **pod,
        "metadata": meta,
        "spec": {**spec, "nodeName": binding["target"]["name"]},
        "status": {**status, "conditions": _scheduled(status.get("conditions") or [], time)},
    }


def _scheduled(conditions: list[Any], time: str) -> list[Any]:
    done = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": time}
    return [*(each for each in conditions if each.get("type") != "PodScheduled"), done]
