"""The columns of a Pod, by the rules of printPod in kubernetes/pkg/printers/internalversion/printers.go.

Restartable init containers (sidecars) are not counted among the containers.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from localkube.apiserver import human_duration
from localkube.apiserver.resources import Object

_NONE = "<none>"
_ENDED = ("Succeeded", "Failed")


def pod_cells(pod: Object, now: datetime) -> list[Any]:
    """Return the cells of `kubectl get pods -o wide`, in the order of its columns."""
    status, spec = pod.get("status", {}), pod.get("spec", {})
    containers = status.get("containerStatuses") or []
    ready = sum(1 for entry in containers if entry.get("ready") and "running" in entry.get("state", {}))
    addresses = status.get("podIPs") or ([{"ip": status["podIP"]}] if status.get("podIP") else [])
    return [
        pod["metadata"]["name"],
        f"{ready}/{len(spec.get('containers') or ())}",
        _status(pod),
        _restarts(status, now),
        human_duration.age(pod, now),
        addresses[0]["ip"] if addresses else _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _gates(pod),
    ]


def _status(pod: Object) -> str:
    status = pod.get("status", {})
    phase = status.get("phase", "")
    deleting = bool(pod["metadata"].get("deletionTimestamp"))
    if deleting and status.get("reason") == "NodeLost":
        return "Unknown"
    if deleting and phase not in _ENDED:
        return "Terminating"
    reason = status.get("reason") or phase
    condition = _condition(pod, "PodScheduled")
    if condition.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    init_status = _init_status(pod)
    if init_status and _condition(pod, "Initialized").get("status") != "True":
        return init_status
    return _container_status(pod, reason)


def _init_status(pod: Object) -> str:
    """Return the state of the first unfinished init container; empty when all have completed."""
    total = len(pod.get("spec", {}).get("initContainers") or ())
    for number, container in enumerate(pod.get("status", {}).get("initContainerStatuses") or ()):
        state = container.get("state", {})
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if terminated is not None:
            return f"Init:{_termination(terminated)}"
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{number}/{total}"
    return ""


def _container_status(pod: Object, reason: str) -> str:
    """Return the reason of the first container that waits or has terminated, unless another is running."""
    running, failure = False, ""
    for container in reversed(pod.get("status", {}).get("containerStatuses") or []):
        state = container.get("state", {})
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = _termination(terminated)
            failure = reason if terminated.get("exitCode") else failure
        elif container.get("ready") and "running" in state:
            running = True
    if reason != "Completed":
        return reason
    if running and _condition(pod, "Ready").get("status") == "True":
        return "Running"
    return failure or ("NotReady" if running else reason)


def _termination(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _restarts(status: Object, now: datetime) -> str:
    containers = list(_containers(status))
    count = sum(entry.get("restartCount", 0) for entry in containers)
    ends = [entry.get("lastState", {}).get("terminated", {}).get("finishedAt") for entry in containers]
    latest = max((end for end in ends if end), default="")
    return f"{count} ({human_duration.since(latest, now)} ago)" if count and latest else str(count)


def _containers(status: Object) -> Iterator[Object]:
    yield from status.get("containerStatuses") or status.get("initContainerStatuses") or ()


def _gates(pod: Object) -> str:
    gates = pod.get("spec", {}).get("readinessGates") or []
    if not gates:
        return _NONE
    true = sum(1 for gate in gates if _condition(pod, gate["conditionType"]).get("status") == "True")
    return f"{true}/{len(gates)}"


def _condition(pod: Object, kind: str) -> Object:
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((entry for entry in conditions if entry.get("type") == kind), {})
