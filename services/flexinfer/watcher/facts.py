"""Facts: objects of the Kubernetes API, condensed to what components decide from. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from flexinfer.api import kube, resource_api
from flexinfer.api.numbers import bounded
from flexinfer.api.quantity import Quantity, milli
from flexinfer.events.nodes import NodeFacts, Taint
from flexinfer.watcher.dra import device_claims, dra_devices

_ENDED = ("Succeeded", "Failed")


def requests_of(pod: kube.Pod) -> dict[str, int]:
    """Return what a Pod takes from its node, in thousandths; nothing once it has ended."""
    if pod.status.phase in _ENDED:
        return {}
    total = {"pods": 1000}
    for container in pod.spec.containers:
        # A limit without a request is the request, as the API server defaults it.
        for name, amount in _amounts(container.resources.limits | container.resources.requests).items():
            total[name] = total.get(name, 0) + amount
    return total


def node_facts(
    node: kube.Node,
    requests: Mapping[str, int],
    slices: Sequence[resource_api.ResourceSlice] = (),
    claims: Sequence[resource_api.ResourceClaim] = (),
    runtime_classes: Mapping[str, str] = MappingProxyType({}),
) -> NodeFacts:
    """Condense a Node; `requests` is the sum over its Pods, in thousandths.

    `slices` are the ResourceSlices that name it, `claims` the ResourceClaims that have devices of their pools. `runtime_classes` are those of
    the settings, by vendor. Which handlers a node has is in its status with containerd 2.0 and CRI-O 1.31 or newer; a RuntimeClass is taken
    to have the name of its handler.
    """
    handlers = {handler.name for handler in node.status.runtime_handlers if handler.name}
    ready = next((c.status for c in node.status.conditions if c.type == "Ready"), "Unknown")
    return NodeFacts(
        name=node.metadata.name,
        uid=node.metadata.uid,
        version=node.metadata.version,
        ready=ready,
        unschedulable=node.spec.unschedulable,
        labels=node.metadata.labels,
        taints=tuple(Taint(key=t.key, value=t.value, effect=t.effect) for t in node.spec.taints),
        allocatable=_amounts(node.status.allocatable),
        requested={name: bounded(requests[name]) for name in sorted(requests)},
        runtime_classes={v: name for v, name in sorted(runtime_classes.items()) if name in handlers},
        dra=dra_devices(slices, node.metadata.name),
        device_claims=device_claims(slices, claims, node.metadata.name),
    )


def job_uid(pod: kube.Pod) -> str:
    """Return the uid of the Job that a Pod belongs to; empty if there is none."""
    return next((o.uid for o in pod.metadata.owner_references if o.kind == "Job"), "")


def _amounts(quantities: Mapping[str, Quantity]) -> dict[str, int]:
    """Return quantities in thousandths, without those that are none."""
    amounts: dict[str, int] = {}
    for name in sorted(quantities):
        try:
            amounts[name] = milli(quantities[name])
        except ValueError:
            continue
    return amounts
