"""The placer's messages: state, cause with numbers, remedy. Pure."""

import re
from collections.abc import Mapping

from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.api.model import Placement
from flexinfer.placer.mismatch import Unschedulable, counted

_NAMED_NODES = 6
_TOLERANCE = 0.1
_MEASURED = re.compile(r"[0-9]+(?= MiB)")

WAITING = "waiting for Accepted"


def scheduled(placement: Placement) -> str:
    """Return the message of a Model that has a node."""
    if placement.vendor == "cpu":
        return f"scheduled to node {placement.node}"
    number = len(placement.devices)
    devices = counted(number, f"{placement.vendor} device") if number else placement.vendor
    size = f", {placement.footprint} MiB" if placement.footprint else ""
    return f"scheduled to node {placement.node} ({devices}{size})"


def no_node_fits(reasons: Mapping[str, Unschedulable], scope: str = "") -> str:
    """Return why no node can run a Model: what each lacks, then what helps on the node that lacks the least.

    `reasons` is by node; `scope` says what narrows the choice of nodes.
    """
    nodes = f"{counted(len(reasons), 'node')}{f'; {scope}' if scope else ''}"
    if not reasons:
        remedy = "register a node (kubectl get nodes), and check that the watcher runs"
        return f"no node fits ({nodes}). Remedy: {remedy}"
    named = sorted(reasons)[:_NAMED_NODES]
    causes = "; ".join(f"{name}: {reasons[name].message}" for name in named)
    rest = f"; and {len(reasons) - len(named)} more" if len(reasons) > len(named) else ""
    nearest = max(sorted(reasons), key=lambda name: reasons[name].rank)
    return f"no node fits ({nodes}): {causes}{rest}. Remedy: {reasons[nearest].remedy}"


def group_scope(group: str, node: str) -> str:
    """Return why only one node is tried: the members of a shared group share its devices."""
    return f"members of the shared group {group} run on {node}"


def node_unhealthy(node: str, *, devices: bool, seconds: float) -> str:
    """Return the message of a Model whose node is not ready.

    `seconds`: after how long a Model without devices is rescheduled.
    """
    if not devices:
        return f"node {node} is not ready; the model is rescheduled if that lasts {seconds:.0f}s"
    return (
        f"node {node} is not ready and its devices may be in use, so the model stays assigned to it. "
        f"Remedy: bring the node back, delete it (kubectl delete node {node}) "
        f"or taint it {OUT_OF_SERVICE_TAINT}"
    )


def node_gone(node: str, cause: str, *, pods: bool) -> str:
    """Return the message of a Model that lost its node; `pods`: whether it still has Pods there."""
    condition = "its Pod there is deleted" if pods else "its spec is accepted"
    return f"node {node} {cause}; the model is rescheduled once {condition}"


def nearly_equal(previous: str, message: str) -> bool:
    """Tell whether two messages differ at most by a tenth in their amounts of memory.

    Free device memory changes with every sample; a status write for each would be noise. All else, node
    names with digits included, must be the same.
    """
    if _MEASURED.sub("#", previous) != _MEASURED.sub("#", message):
        return False
    pairs = zip(_MEASURED.findall(previous), _MEASURED.findall(message), strict=True)
    return all(abs(int(a) - int(b)) <= _TOLERANCE * max(int(a), int(b)) for a, b in pairs)
