"""The printers of built-in kinds: the columns and cells of `kubectl get`, without those of storage kinds.

Like kubernetes/pkg/printers/internalversion/printers.go. Custom resources are printed by the JSONPaths of
their additionalPrinterColumns (`tables`), Pods by `pod_printer`, storage kinds by `storage_printers`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from localkube.apiserver import human_duration
from localkube.apiserver.pod_printer import pod_cells
from localkube.apiserver.printing import NONE, Printer, columns, name_of
from localkube.apiserver.resources import Object
from localkube.apiserver.storage_printers import STORAGE_PRINTERS

_ROLE = "node-role.kubernetes.io/"
_JOB_STATES = (("Complete", "Complete"), ("Failed", "Failed"))
_JOB_LATER_STATES = (
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


def _conditions(obj: Object) -> dict[str, Object]:
    return {condition["type"]: condition for condition in obj.get("status", {}).get("conditions") or ()}


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _job(job: Object, now: datetime) -> list[Any]:
    spec, status = job.get("spec", {}), job.get("status", {})
    containers = spec.get("template", {}).get("spec", {}).get("containers") or []
    return [
        name_of(job),
        _job_state(job),
        f"{status.get('succeeded', 0)}/{spec.get('completions', 1)}",
        _duration(status, now),
        human_duration.age(job, now),
        ",".join(container["name"] for container in containers),
        ",".join(container.get("image", "") for container in containers),
        _labels((spec.get("selector") or {}).get("matchLabels")),
    ]


def _job_state(job: Object) -> str:
    true = {kind for kind, condition in _conditions(job).items() if condition.get("status") == "True"}
    final = next((state for kind, state in _JOB_STATES if kind in true), "")
    if final:
        return final
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((state for kind, state in _JOB_LATER_STATES if kind in true), "Running")


def _duration(status: Object, now: datetime) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    return human_duration.since(start, (human_duration.parse_time(end) if end else None) or now)


def _service(service: Object, now: datetime) -> list[Any]:
    spec = service.get("spec", {})
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        name_of(service),
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
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    addresses = [entry.get("ip") or entry.get("hostname", "") for entry in ingress]
    missing = "<pending>" if spec.get("type") == "LoadBalancer" else NONE
    return ",".join(addresses + (spec.get("externalIPs") or [])) or missing


def _port(port: Object) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"


def _node(node: Object, now: datetime) -> list[Any]:
    labels = node["metadata"].get("labels") or {}
    info = node.get("status", {}).get("nodeInfo", {})
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)}
    roles |= {labels["kubernetes.io/role"]} if labels.get("kubernetes.io/role") else set()
    kernel = info.get("kernelVersion") or human_duration.UNKNOWN
    return [
        name_of(node),
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
    state = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    return state + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _address(node: Object, kind: str) -> str:
    addresses = node.get("status", {}).get("addresses") or ()
    return next((entry["address"] for entry in addresses if entry["type"] == kind), NONE)


def _event(event: Object, now: datetime) -> list[Any]:
    regarding = event.get("involvedObject") or event.get("regarding") or {}
    source, series = event.get("source") or {}, event.get("series") or {}
    first = human_duration.since(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = human_duration.since(event["lastTimestamp"], now) if event.get("lastTimestamp") else first
    if series:
        last = human_duration.since(series.get("lastObservedTime"), now)
    kind, name = regarding.get("kind", "").lower(), regarding.get("name")
    component = source.get("component") or event.get("reportingComponent") or ""
    instance = source.get("host") or event.get("reportingInstance") or ""
    return [
        last,
        event.get("type", ""),
        event.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        regarding.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        (event.get("message") or event.get("note") or "").strip(),
        first,
        str(series.get("count") or event.get("count") or 1),
        name_of(event),
    ]


def _namespace(space: Object, now: datetime) -> list[Any]:
    return [name_of(space), space.get("status", {}).get("phase", ""), human_duration.age(space, now)]


def _config_map(config: Object, now: datetime) -> list[Any]:
    count = len(config.get("data") or {}) + len(config.get("binaryData") or {})
    return [name_of(config), count, human_duration.age(config, now)]


def _service_account(account: Object, now: datetime) -> list[Any]:
    return [name_of(account), human_duration.age(account, now)]


def _secret(secret: Object, now: datetime) -> list[Any]:
    return [
        name_of(secret),
        secret.get("type", ""),
        len(secret.get("data") or {}),
        human_duration.age(secret, now),
    ]


def _lease(lease: Object, now: datetime) -> list[Any]:
    return [name_of(lease), lease.get("spec", {}).get("holderIdentity") or "", human_duration.age(lease, now)]


def _definition(definition: Object, now: datetime) -> list[Any]:  # noqa: ARG001 -- signature
    return [name_of(definition), definition["metadata"].get("creationTimestamp", "")]


_EVENTS = Printer(
    (
        *columns("Last Seen|Type|Reason|Object", "Subobject|Source"),
        *columns("Message", "First Seen|Count|Name"),
    ),
    _event,
)
PRINTERS: Mapping[tuple[str, str], Printer] = {  # (group, kind) -> printer
    ("", "Pod"): Printer(
        columns("Name|Ready|Status|Restarts|Age", "IP|Node|Nominated Node|Readiness Gates"), pod_cells
    ),
    ("batch", "Job"): Printer(
        columns("Name|Status|Completions|Duration|Age", "Containers|Images|Selector"), _job
    ),
    ("", "Service"): Printer(columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age", "Selector"), _service),
    ("", "Node"): Printer(
        columns(
            "Name|Status|Roles|Age|Version",
            "Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime",
        ),
        _node,
    ),
    ("", "Event"): _EVENTS,
    ("events.k8s.io", "Event"): _EVENTS,
    ("", "Namespace"): Printer(columns("Name|Status|Age"), _namespace),
    ("", "Secret"): Printer(columns("Name|Type|Data|Age"), _secret),
    ("", "ServiceAccount"): Printer(columns("Name|Age"), _service_account),
    ("", "ConfigMap"): Printer(columns("Name|Data|Age"), _config_map),
    **STORAGE_PRINTERS,
    ("coordination.k8s.io", "Lease"): Printer(columns("Name|Holder|Age"), _lease),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Printer(columns("Name|Created At"), _definition),
}
