"""How a Pod is printed: one word for what its containers are up to, by a real API server's rules."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from localkube.apiserver import human_duration
from localkube.apiserver.resources import Object

_NONE = "<none>"
_ENDED = ("Succeeded", "Failed")


def pod_cells(pod: Object, now: datetime) -> list[Any]:
    """Return the cells of `kubectl get pods -o wide`."""
    status, spec = pod.get("status", {}), pod.get("spec", {})
    containers = status.get("containerStatuses") or []
    ready = sum(1 for known in containers if known.get("ready") and "running" in known.get("state", {}))
    addresses = status.get("podIPs") or ([{"ip": status["podIP"]}] if status.get("podIP") else [])
    return [
        pod["metadata"]["name"],
        f"{ready}/{len(spec.get('containers') or ())}",
        _word(pod),
        _restarts(status, now),
        human_duration.age(pod, now),
        addresses[0]["ip"] if addresses else _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _gates(pod),
    ]


def _word(pod: Object) -> str:
    status = pod.get("status", {})
    phase = status.get("phase", "")
    deleting = bool(pod["metadata"].get("deletionTimestamp"))
    if deleting and status.get("reason") == "NodeLost":
        return "Unknown"
    if deleting and phase not in _ENDED:
        return "Terminating"
    word = status.get("reason") or phase
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("reason") == "SchedulingGated":
        word = "SchedulingGated"
    initial = _initial(pod)
    if initial and _condition(pod, "Initialized").get("status") != "True":
        return initial
    return _of_containers(pod, word)


def _initial(pod: Object) -> str:
    """Return what the first unfinished init container is up to; empty when all are done."""
    total = len(pod.get("spec", {}).get("initContainers") or ())
    for number, known in enumerate(pod.get("status", {}).get("initContainerStatuses") or ()):
        state = known.get("state", {})
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended is not None and not ended.get("exitCode"):
            continue
        if ended is not None:
            return f"Init:{_ending(ended)}"
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{number}/{total}"
    return ""


def _of_containers(pod: Object, word: str) -> str:
    """Return the word of the first container that waits or ended, unless another runs on."""
    running, failure = False, ""
    for known in reversed(pod.get("status", {}).get("containerStatuses") or []):
        state = known.get("state", {})
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            word = waiting["reason"]
        elif ended is not None:
            word = _ending(ended)
            failure = word if ended.get("exitCode") else failure
        elif known.get("ready") and "running" in state:
            running = True
    if word != "Completed":
        return word
    if running and _condition(pod, "Ready").get("status") == "True":
        return "Running"
    return failure or ("NotReady" if running else word)


def _ending(ended: Object) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _restarts(status: Object, now: datetime) -> str:
    containers = list(_containers(status))
    count = sum(known.get("restartCount", 0) for known in containers)
    ends = [known.get("lastState", {}).get("terminated", {}).get("finishedAt") for known in containers]
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
    known = pod.get("status", {}).get("conditions") or ()
    return next((entry for entry in known if entry.get("type") == kind), {})
