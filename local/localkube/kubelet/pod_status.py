"""Pod status: what a Pod's record means in the fields of the Pod API, by kubelet's rules. Pure: record and time in, status out."""

from datetime import datetime

from localkube.kubelet.checkpoint import ContainerRecord, PodRecord
from localkube.kubelet.client import Object

HOST = "127.0.0.1"


def stamp(now: datetime) -> str:
    """Return a time as the API writes it."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def of(record: PodRecord, now: datetime, *, terminated: bool = False) -> Object:
    """Return a Pod's whole status; `terminated`: it was stopped and nothing of it runs."""
    pod = record.pod
    phase = "Failed" if record.failed else phase_of(record, terminated=terminated)
    status: Object = {
        "phase": phase,
        "hostIP": HOST,
        "hostIPs": [{"ip": HOST}],
        "podIP": record.address,
        "podIPs": [{"ip": record.address}],
        "startTime": record.started_at,
        "conditions": _conditions(record, phase, now),
        "containerStatuses": [_container(c, record) for c in pod["spec"]["containers"]],
        "reason": record.failed[0] if record.failed else None,
        "message": record.failed[1] if record.failed else None,
    }
    if pod["spec"].get("initContainers"):
        status["initContainerStatuses"] = [_container(c, record) for c in pod["spec"]["initContainers"]]
    return status


def phase_of(record: PodRecord, *, terminated: bool = False) -> str:
    """Return the phase, by kubelet's rules."""
    spec = record.pod["spec"]
    policy = spec.get("restartPolicy", "Always")
    codes = [_code(record.container(c["name"])) for c in spec["containers"]]
    exit_codes = [code for code in codes if code is not None]
    if terminated:
        return "Succeeded" if len(exit_codes) == len(codes) and not any(exit_codes) else "Failed"
    if not initialized(record):
        failed = any(_code(record.container(c["name"])) for c in spec.get("initContainers", ()))
        return "Failed" if failed and policy == "Never" else "Pending"
    states = [record.container(c["name"]) for c in spec["containers"]]
    if any("running" not in s.state and not _ended(s) for s in states):
        return "Pending"
    if any("running" in s.state for s in states) or policy == "Always":
        return "Running"
    if not any(exit_codes):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def initialized(record: PodRecord) -> bool:
    """Return whether every init container has succeeded."""
    names = [c["name"] for c in record.pod["spec"].get("initContainers", ())]
    return all(_code(record.container(name)) == 0 for name in names)


def _ended(container: ContainerRecord) -> bool:
    return "terminated" in container.state or "terminated" in container.last


def _code(container: ContainerRecord) -> int | None:
    """Return how the container ended; None while it runs, or never ran."""
    if "running" in container.state:
        return None
    termination = container.state.get("terminated") or container.last.get("terminated")
    return None if termination is None else int(termination["exitCode"])


def _container(spec: Object, record: PodRecord) -> Object:
    container = record.container(spec["name"])
    return {
        "name": spec["name"],
        "image": spec.get("image", ""),
        "imageID": "",
        "containerID": container.id,
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
        "state": container.state or _waiting(record),
        "lastState": container.last,
        **_allocated(spec, record),
    }


def _allocated(spec: Object, record: PodRecord) -> Object:
    """Return the devices that a container was allocated, by id, as kubelet reports those of a device plugin."""
    limits = (spec.get("resources") or {}).get("limits") or {}
    allocation = [(name, ids) for name, ids in sorted(record.device_ids.items()) if name in limits]
    statuses = [
        {"name": name, "resources": [{"resourceID": uuid, "health": "Healthy"} for uuid in ids]}
        for name, ids in allocation
    ]
    return {"allocatedResourcesStatus": statuses} if statuses else {}


def _waiting(record: PodRecord) -> Object:
    return {"waiting": {"reason": "ContainerCreating" if initialized(record) else "PodInitializing"}}


def _conditions(record: PodRecord, phase: str, now: datetime) -> list[Object]:
    names = [c["name"] for c in record.pod["spec"]["containers"]]
    unready = [name for name in names if not record.container(name).ready]
    done = phase in ("Succeeded", "Failed")
    ready = not unready and not done
    why = "PodCompleted" if phase == "Succeeded" else "ContainersNotReady"
    message = "" if phase == "Succeeded" else f"containers with unready status: [{' '.join(unready)}]"
    previous = {c["type"]: c for c in (record.pod.get("status") or {}).get("conditions") or ()}
    gates = [gate["conditionType"] for gate in record.pod["spec"].get("readinessGates", ())]
    opened = all(previous.get(gate, {}).get("status") == "True" for gate in gates)
    conditions = [
        _condition("PodReadyToStartContainers", met=not done),
        _condition("Initialized", met=initialized(record), reason="ContainersNotInitialized"),
        _condition(
            "Ready",
            met=ready and opened,
            reason=why if unready or done else "ReadinessGatesNotReady",
            message=message,
        ),
        _condition("ContainersReady", met=ready, reason=why, message=message),
        _condition("PodScheduled", met=True),
    ]
    own_types = {condition["type"] for condition in conditions}
    others = [condition for kind, condition in previous.items() if kind not in own_types]
    return [
        _with_transition_time(condition, previous.get(condition["type"]), now) for condition in conditions
    ] + others


def _condition(kind: str, *, met: bool, reason: str = "", message: str = "") -> Object:
    if met:
        return {"type": kind, "status": "True"}
    details = {"reason": reason, "message": message}
    return {"type": kind, "status": "False", **{key: text for key, text in details.items() if text}}


def _with_transition_time(condition: Object, previous: Object | None, now: datetime) -> Object:
    """Return a condition with the time of its last transition."""
    if (
        previous is not None
        and previous["status"] == condition["status"]
        and previous.get("lastTransitionTime")
    ):
        return {**condition, "lastTransitionTime": previous["lastTransitionTime"]}
    return {**condition, "lastTransitionTime": stamp(now)}
