"""Node fit: whether a node can run a Pod, and the reasons if not, in kube-scheduler's words. Pure.

The Filter plugins NodeUnschedulable, TaintToleration, NodeAffinity, VolumeBinding and NodeResourcesFit, in that order; no Pod affinity,
topology spread or host ports.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from localkube.apiserver.resources import Object
from localkube.quantity import milli

_TERMINAL_PHASES = ("Succeeded", "Failed")
_NOT_READY = "node.kubernetes.io/not-ready"
_BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")
_NO_MATCH = "node(s) didn't match Pod's node affinity/selector"
_NO_VOLUME = "node(s) didn't match PersistentVolume's node affinity"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node with the requests of its Pods (in thousandths) and their number."""

    node: Object
    used: Mapping[str, int]
    pods: int

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node["metadata"]["name"])


def node_info(node: Object, pods: Iterable[Object]) -> NodeInfo:
    """Sum up the requests of the Pods on a node that have not ended."""
    requests_total: Counter[str] = Counter()
    count = 0
    for pod in pods:
        if (pod.get("status") or {}).get("phase") not in _TERMINAL_PHASES:
            requests_total.update(requests(pod))
            count += 1
    return NodeInfo(node, requests_total, count)


def requests(pod: Object) -> dict[str, int]:
    """Return a Pod's requests in thousandths: the sum of its containers or its largest init container, and its overhead."""
    total: Counter[str] = Counter()
    for container in pod["spec"].get("containers") or ():
        total.update(_container_requests(container))
    for container in pod["spec"].get("initContainers") or ():
        for resource, amount in _container_requests(container).items():
            total[resource] = max(total[resource], amount)
    total.update({key: milli(value) for key, value in (pod["spec"].get("overhead") or {}).items()})
    return dict(total)


def unschedulable_reasons(pod: Object, info: NodeInfo, volumes: Iterable[Object] = ()) -> list[str]:
    """Return why a node cannot run a Pod, in kube-scheduler's words; empty if it can."""
    node = info.node
    labels = node["metadata"].get("labels") or {}
    if (node.get("spec") or {}).get("unschedulable") and not _tolerates(pod, _cordoned()):
        return ["node(s) were unschedulable"]
    blocking_taint = next((taint for taint in _taints(node) if not _tolerates(pod, taint)), None)
    if blocking_taint is not None:
        return [
            f"node(s) had untolerated taint {{{blocking_taint['key']}: {blocking_taint.get('value', '')}}}"
        ]
    if not _matches_node_selector(pod, labels, info.name):
        return [_NO_MATCH]
    if not all(_matches_volume(volume, labels, info.name) for volume in volumes):
        return [_NO_VOLUME]
    return list(_insufficient(pod, info))


def fit_error(reasons: Mapping[str, list[str]]) -> str:
    """Return kube-scheduler's message over all nodes; `reasons` is node name -> reasons."""
    if not reasons:
        return "no nodes available to schedule pods"
    counts = Counter(why for node in reasons.values() for why in node)
    short = sum(
        all("Insufficient" in why or why == "Too many pods" for why in node) for node in reasons.values()
    )
    others = len(reasons) - short
    helps = [f"{short} No preemption victims found for incoming pod"] if short else []
    helps += [f"{others} Preemption is not helpful for scheduling"] if others else []
    head = f"0/{len(reasons)} nodes are available"
    words = ", ".join(sorted(f"{count} {why}" for why, count in counts.items()))
    return f"{head}: {words}. preemption: {head}: {', '.join(helps)}."


def matches_terms(terms: Iterable[Object], labels: Mapping[str, str], name: str) -> bool:
    """Return whether one term of a node selector matches; an empty term matches nothing."""
    return any(_matches_term(term, labels, name) for term in terms)


def _matches_term(term: Object, labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    by_label = all(_matches(expression, labels) for expression in expressions)
    return by_label and all(_matches(field, {"metadata.name": name}) for field in fields)


def _matches(requirement: Object, values: Mapping[str, str]) -> bool:
    value, expected_values = values.get(requirement["key"]), requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in expected_values
        case "NotIn":
            return value not in expected_values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as order:
            return _compares(order, value, expected_values)
        case _:
            return False


def _compares(order: str, value: str | None, expected_values: Iterable[str]) -> bool:
    try:
        have, limit = int(value or ""), int(next(iter(expected_values), ""))
    except ValueError:
        return False
    return have > limit if order == "Gt" else have < limit


def _matches_node_selector(pod: Object, labels: Mapping[str, str], name: str) -> bool:
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or matches_terms(required.get("nodeSelectorTerms") or (), labels, name)


def _matches_volume(volume: Object, labels: Mapping[str, str], name: str) -> bool:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or matches_terms(required.get("nodeSelectorTerms") or (), labels, name)


def _taints(node: Object) -> Iterator[Object]:
    yield from (
        t for t in (node.get("spec") or {}).get("taints") or () if t.get("effect") in _BLOCKING_EFFECTS
    )
    conditions = (node.get("status") or {}).get("conditions") or ()
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        yield {"key": _NOT_READY, "effect": "NoSchedule"}


def _cordoned() -> Object:
    return {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def _tolerates(pod: Object, taint: Object) -> bool:
    return any(_tolerated(toleration, taint) for toleration in pod["spec"].get("tolerations") or ())


def _tolerated(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    if toleration["key"] != taint["key"]:
        return False
    return exists or (toleration.get("value") or "") == (taint.get("value") or "")


def _insufficient(pod: Object, info: NodeInfo) -> Iterator[str]:
    allocatable = (info.node.get("status") or {}).get("allocatable") or {}
    if info.pods + 1 > milli(allocatable.get("pods", "110")) // 1000:
        yield "Too many pods"
    for resource, amount in sorted(requests(pod).items()):
        if amount and amount > milli(allocatable.get(resource, "0")) - info.used.get(resource, 0):
            yield f"Insufficient {resource}"


def _container_requests(container: Object) -> dict[str, int]:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {resource: milli(amount) for resource, amount in amounts.items()}
