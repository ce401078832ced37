"""Fitting: may this Pod run on that node, and if not, in kube-scheduler's words why. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from localkube.apiserver.resources import Object
from localkube.quantity import milli

_OVER = ("Succeeded", "Failed")
_NOT_READY = "node.kubernetes.io/not-ready"
_REPELLING = ("NoSchedule", "NoExecute")
_NO_MATCH = "node(s) didn't match Pod's node affinity/selector"
_NO_VOLUME = "node(s) didn't match PersistentVolume's node affinity"


@dataclass(frozen=True, slots=True)
class Room:
    """A node, what its Pods ask for already (in thousandths), and how many they are."""

    node: Object
    used: Mapping[str, int]
    pods: int

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node["metadata"]["name"])


def room(node: Object, pods: Iterable[Object]) -> Room:
    """Count what a node's Pods ask for."""
    used: Counter[str] = Counter()
    count = 0
    for pod in pods:
        if (pod.get("status") or {}).get("phase") not in _OVER:
            used.update(requests(pod))
            count += 1
    return Room(node, used, count)


def requests(pod: Object) -> dict[str, int]:
    """Return what a Pod asks for, in thousandths: the sum of its containers, or its largest init container."""
    total: Counter[str] = Counter()
    for container in pod["spec"].get("containers") or ():
        total.update(_asked(container))
    for container in pod["spec"].get("initContainers") or ():
        for resource, amount in _asked(container).items():
            total[resource] = max(total[resource], amount)
    total.update({key: milli(value) for key, value in (pod["spec"].get("overhead") or {}).items()})
    return dict(total)


def obstacles(pod: Object, there: Room, volumes: Iterable[Object] = ()) -> list[str]:
    """Return why a Pod may not run on a node; empty when it may."""
    node = there.node
    labels = node["metadata"].get("labels") or {}
    if (node.get("spec") or {}).get("unschedulable") and not _tolerates(pod, _cordoned()):
        return ["node(s) were unschedulable"]
    repelled = next((taint for taint in _taints(node) if not _tolerates(pod, taint)), None)
    if repelled is not None:
        return [f"node(s) had untolerated taint {{{repelled['key']}: {repelled.get('value', '')}}}"]
    if not _selected(pod, labels, there.name):
        return [_NO_MATCH]
    if not all(_reachable(volume, labels, there.name) for volume in volumes):
        return [_NO_VOLUME]
    return list(_lacking(pod, there))


def refusal(found: Mapping[str, list[str]]) -> str:
    """Return kube-scheduler's sentence over all nodes: name -> obstacles."""
    if not found:
        return "no nodes available to schedule pods"
    counted = Counter(why for obstacle in found.values() for why in obstacle)
    short = sum(
        all("Insufficient" in why or why == "Too many pods" for why in each) for each in found.values()
    )
    others = len(found) - short
    helps = [f"{short} No preemption victims found for incoming pod"] if short else []
    helps += [f"{others} Preemption is not helpful for scheduling"] if others else []
    head = f"0/{len(found)} nodes are available"
    words = ", ".join(sorted(f"{count} {why}" for why, count in counted.items()))
    return f"{head}: {words}. preemption: {head}: {', '.join(helps)}."


def matches_terms(terms: Iterable[Object], labels: Mapping[str, str], name: str) -> bool:
    """Tell whether one term of a node selector matches; a term that asks nothing matches nothing."""
    return any(_matches_term(term, labels, name) for term in terms)


def _matches_term(term: Object, labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    by_label = all(_matches(expression, labels) for expression in expressions)
    return by_label and all(_matches(field, {"metadata.name": name}) for field in fields)


def _matches(requirement: Object, values: Mapping[str, str]) -> bool:
    value, wanted = values.get(requirement["key"]), requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as order:
            return _compares(order, value, wanted)
        case _:
            return False


def _compares(order: str, value: str | None, wanted: Iterable[str]) -> bool:
    try:
        have, limit = int(value or ""), int(next(iter(wanted), ""))
    except ValueError:
        return False
    return have > limit if order == "Gt" else have < limit


def _selected(pod: Object, labels: Mapping[str, str], name: str) -> bool:
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or matches_terms(required.get("nodeSelectorTerms") or (), labels, name)


def _reachable(volume: Object, labels: Mapping[str, str], name: str) -> bool:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or matches_terms(required.get("nodeSelectorTerms") or (), labels, name)


def _taints(node: Object) -> Iterator[Object]:
    yield from (t for t in (node.get("spec") or {}).get("taints") or () if t.get("effect") in _REPELLING)
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


def _lacking(pod: Object, there: Room) -> Iterator[str]:
    allocatable = (there.node.get("status") or {}).get("allocatable") or {}
    if there.pods + 1 > milli(allocatable.get("pods", "110")) // 1000:
        yield "Too many pods"
    for resource, amount in sorted(requests(pod).items()):
        if amount and amount > milli(allocatable.get(resource, "0")) - there.used.get(resource, 0):
            yield f"Insufficient {resource}"


def _asked(container: Object) -> dict[str, int]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {resource: milli(amount) for resource, amount in asked.items()}
