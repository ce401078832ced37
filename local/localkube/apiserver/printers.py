"""Printers: the columns of built-in kinds, as a real API server prints them.

Custom resources print by the JSONPaths of their definition (tables.py); what stands here cannot be said in JSONPath.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from localkube.apiserver import human_duration
from localkube.apiserver.pod_printer import pod_cells
from localkube.apiserver.resources import Object

Cells: TypeAlias = Callable[[Object, datetime], list[Any]]
NONE, UNSET = "<none>", "<unset>"
_ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_ROLE = "node-role.kubernetes.io/"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_JOB_STATES = (("Complete", "Complete"), ("Failed", "Failed"))
_JOB_LATER_STATES = (
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


@dataclass(frozen=True, slots=True)
class Printer:
    """How one kind is printed: its columns, and the cells of one object."""

    columns: Sequence[Object]
    cells: Cells


def _columns(plain: str, wide: str = "") -> Sequence[Object]:
    """Return column definitions by their names, separated by bars; `Name` is the object's own."""

    def column(name: str, priority: int) -> Object:
        return {
            "name": name,
            "type": "integer" if name == "Data" else "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }

    return [column(name, 0) for name in plain.split("|")] + [
        column(name, 1) for name in wide.split("|") if name
    ]


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _conditions(obj: Object) -> dict[str, Object]:
    return {known["type"]: known for known in obj.get("status", {}).get("conditions") or ()}


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _job(job: Object, now: datetime) -> list[Any]:
    spec, status = job.get("spec", {}), job.get("status", {})
    containers = spec.get("template", {}).get("spec", {}).get("containers") or []
    return [
        _name(job),
        _job_state(job),
        f"{status.get('succeeded', 0)}/{spec.get('completions', 1)}",
        _duration(status, now),
        human_duration.age(job, now),
        ",".join(container["name"] for container in containers),
        ",".join(container.get("image", "") for container in containers),
        _labels((spec.get("selector") or {}).get("matchLabels")),
    ]


def _job_state(job: Object) -> str:
    true = {kind for kind, known in _conditions(job).items() if known.get("status") == "True"}
    ended = next((word for kind, word in _JOB_STATES if kind in true), "")
    if ended:
        return ended
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((word for kind, word in _JOB_LATER_STATES if kind in true), "Running")


def _duration(status: Object, now: datetime) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    return human_duration.since(start, (human_duration.parse_time(end) if end else None) or now)


def _service(service: Object, now: datetime) -> list[Any]:
    spec = service.get("spec", {})
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        _name(service),
        spec.get("type", "ClusterIP"),
        addresses[0] if addresses else NONE,
        _external(service),
        ",".join(_port(port) for port in spec.get("ports") or ()) or NONE,
        human_duration.age(service, now),
        _labels(spec.get("selector")),
    ]


def _external(service: Object) -> str:
    spec = service.get("spec", {})
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    balanced = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    addresses = [entry.get("ip") or entry.get("hostname", "") for entry in balanced]
    missing = "<pending>" if spec.get("type") == "LoadBalancer" else NONE
    return ",".join(addresses + (spec.get("externalIPs") or [])) or missing


def _port(port: Object) -> str:
    outside = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{outside}/{port.get('protocol', 'TCP')}"


def _node(node: Object, now: datetime) -> list[Any]:
    labels = node["metadata"].get("labels") or {}
    info = node.get("status", {}).get("nodeInfo", {})
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)}
    roles |= {labels["kubernetes.io/role"]} if labels.get("kubernetes.io/role") else set()
    kernel = info.get("kernelVersion") or human_duration.UNKNOWN
    return [
        _name(node),
        _node_state(node),
        ",".join(sorted(role for role in roles if role)) or NONE,
        human_duration.age(node, now),
        info.get("kubeletVersion", ""),
        _address(node, "InternalIP"),
        _address(node, "ExternalIP"),
        info.get("osImage") or human_duration.UNKNOWN,
        f"{kernel} ({info['architecture']})" if info.get("architecture") else kernel,
        info.get("containerRuntimeVersion") or human_duration.UNKNOWN,
    ]


def _node_state(node: Object) -> str:
    ready = _conditions(node).get("Ready")
    word = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    return word + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _address(node: Object, kind: str) -> str:
    known = node.get("status", {}).get("addresses") or ()
    return next((entry["address"] for entry in known if entry["type"] == kind), NONE)


def _event(event: Object, now: datetime) -> list[Any]:
    about = event.get("involvedObject") or event.get("regarding") or {}
    source, series = event.get("source") or {}, event.get("series") or {}
    first = human_duration.since(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = human_duration.since(event["lastTimestamp"], now) if event.get("lastTimestamp") else first
    if series:
        last = human_duration.since(series.get("lastObservedTime"), now)
    kind, name = about.get("kind", "").lower(), about.get("name")
    component = source.get("component") or event.get("reportingComponent") or ""
    instance = source.get("host") or event.get("reportingInstance") or ""
    return [
        last,
        event.get("type", ""),
        event.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        (event.get("message") or event.get("note") or "").strip(),
        first,
        str(series.get("count") or event.get("count") or 1),
        _name(event),
    ]


def _volume(volume: Object, now: datetime) -> list[Any]:
    spec, claim = volume.get("spec", {}), volume.get("spec", {}).get("claimRef")
    return [
        _name(volume),
        spec.get("capacity", {}).get("storage", "0"),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(volume),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or UNSET,
        volume.get("status", {}).get("reason", ""),
        human_duration.age(volume, now),
        spec.get("volumeMode") or UNSET,
    ]


def _claim(claim: Object, now: datetime) -> list[Any]:
    spec, status = claim.get("spec", {}), claim.get("status", {})
    bound = bool(spec.get("volumeName"))
    return [
        _name(claim),
        _phase(claim),
        spec.get("volumeName", ""),
        status.get("capacity", {}).get("storage", "0") if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        human_duration.age(claim, now),
        spec.get("volumeMode") or UNSET,
    ]


def _phase(obj: Object) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str(obj.get("status", {}).get("phase", ""))


def _modes(modes: Sequence[str] | None) -> str:
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in (modes or ()))


def _class(storage: Object, now: datetime) -> list[Any]:
    default = (storage["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    return [
        _name(storage) + (" (default)" if default else ""),
        storage.get("provisioner", ""),
        storage.get("reclaimPolicy", "Delete"),
        storage.get("volumeBindingMode", "Immediate"),
        "true" if storage.get("allowVolumeExpansion") else "false",
        human_duration.age(storage, now),
    ]


def _namespace(space: Object, now: datetime) -> list[Any]:
    return [_name(space), space.get("status", {}).get("phase", ""), human_duration.age(space, now)]


def _config_map(config: Object, now: datetime) -> list[Any]:
    kept = len(config.get("data") or {}) + len(config.get("binaryData") or {})
    return [_name(config), kept, human_duration.age(config, now)]


def _secret(secret: Object, now: datetime) -> list[Any]:
    return [
        _name(secret),
        secret.get("type", ""),
        len(secret.get("data") or {}),
        human_duration.age(secret, now),
    ]


def _lease(lease: Object, now: datetime) -> list[Any]:
    return [_name(lease), lease.get("spec", {}).get("holderIdentity") or "", human_duration.age(lease, now)]


def _definition(definition: Object, now: datetime) -> list[Any]:  # noqa: ARG001 -- as all printers
    return [_name(definition), definition["metadata"].get("creationTimestamp", "")]


_EVENTS = Printer(
    (
        *_columns("Last Seen|Type|Reason|Object", "Subobject|Source"),
        *_columns("Message", "First Seen|Count|Name"),
    ),
    _event,
)
PRINTERS: Mapping[tuple[str, str], Printer] = {  # (group, kind) -> printer
    ("", "Pod"): Printer(
        _columns("Name|Ready|Status|Restarts|Age", "IP|Node|Nominated Node|Readiness Gates"), pod_cells
    ),
    ("batch", "Job"): Printer(
        _columns("Name|Status|Completions|Duration|Age", "Containers|Images|Selector"), _job
    ),
    ("", "Service"): Printer(_columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age", "Selector"), _service),
    ("", "Node"): Printer(
        _columns(
            "Name|Status|Roles|Age|Version",
            "Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime",
        ),
        _node,
    ),
    ("", "Event"): _EVENTS,
    ("events.k8s.io", "Event"): _EVENTS,
    ("", "Namespace"): Printer(_columns("Name|Status|Age"), _namespace),
    ("", "Secret"): Printer(_columns("Name|Type|Data|Age"), _secret),
    ("", "ConfigMap"): Printer(_columns("Name|Data|Age"), _config_map),
    ("", "PersistentVolume"): Printer(
        _columns(
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age",
            "VolumeMode",
        ),
        _volume,
    ),
    ("", "PersistentVolumeClaim"): Printer(
        _columns(
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age", "VolumeMode"
        ),
        _claim,
    ),
    ("coordination.k8s.io", "Lease"): Printer(_columns("Name|Holder|Age"), _lease),
    ("storage.k8s.io", "StorageClass"): Printer(
        _columns("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"), _class
    ),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Printer(_columns("Name|Created At"), _definition),
}
