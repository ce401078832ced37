"""The placer's messages: state, cause with numbers, remedy. Pure."""

import re
from collections.abc import Mapping, Sequence

from flexinfer.api.conditions import MESSAGE_LIMIT, clause
from flexinfer.api.labels import GPU_RESOURCES, OUT_OF_SERVICE_TAINT
from flexinfer.api.metadata import Metadata
from flexinfer.api.numbers import counted
from flexinfer.api.placement import Placement
from flexinfer.placer.footprint import source_text
from flexinfer.placer.unschedulable import Unschedulable, nearest

_NAMED_NODES = 6
_SPARE = 24
"""Characters kept for the count of the nodes that are not named."""
_TOLERANCE, _TOLERANCE_MB = 0.1, 256
_MEASURED = re.compile(r"[0-9]+(?= MiB)")

WAITING = "waiting for Accepted"


def scheduled(placement: Placement, warnings: Sequence[str] = ()) -> str:
    """Return the message of a Model that has a node; `warnings` say what may go wrong there."""
    return "; ".join([_where(placement), *warnings])


def _where(placement: Placement) -> str:
    if placement.vendor == "cpu":
        return f"scheduled to node {placement.node}"
    number = len(placement.devices)
    devices = counted(number, f"{placement.vendor} device") if number else placement.vendor
    source = source_text(placement.footprint_source)
    size = f", {placement.footprint_mb} MiB{source}" if placement.footprint_mb else ""
    return f"scheduled to node {placement.node} ({devices}{size})"


def memory_unknown(node: str, vendor: str, why: str) -> str:
    """Return the warning about devices that are counted, but of which nothing is known."""
    return (
        f"its free GPU memory is not checked: the agent of {node} reports no {vendor} device ({why}); see flexinfer gpus --here "
        "on that node"
    )


def out_of_use(device: str, node: str, error: str, elsewhere: str) -> str:
    """Return the message of a Model whose device must not be used any more, and that has nowhere to go."""
    return f"device {device} of node {node} is out of use: {clause(error)}; reset it, or restart the node; {elsewhere}"


def other_device(metadata: Metadata) -> str:
    """Return what to do for a Model whose node has another device that it fits on."""
    pod = f"{metadata.name}-0"
    return f"the node has another device with room: kubectl delete pod -n {metadata.namespace} {pod} starts it there"


def offered_twice(placement: Placement, twice: Sequence[str]) -> list[str]:
    """Return the warning about devices that both a DRA driver and a device plugin give to Pods; none if there are no such."""
    if not twice:
        return []
    resource = GPU_RESOURCES[placement.vendor]
    both = f"by the DRA driver {placement.driver} and by a device plugin ({resource})"
    remedy = "they count apart, so two Pods may get it; disable one of them there"
    return [f"{', '.join(twice)} on node {placement.node} is offered {both}: {remedy}"]


def experimental(backend: str, architecture: str, reason: str) -> str:
    """Return the warning about a GPU on which an engine may fail."""
    return f"{backend} is experimental on {architecture}: {reason}"


def excused(backend: str, architecture: str, reason: str, excuse: str) -> str:
    """Return the warning about a GPU that an engine is said not to run on, but that the user allows."""
    return f"{backend} is said not to run on {architecture} ({reason}); allowed by annotation: {excuse}"


def no_node_fits(reasons: Mapping[str, Unschedulable], scope: str = "") -> str:
    """Return why no node can run a Model: what each lacks, then what helps on the node that lacks the least.

    `reasons` is by node; `scope` says what narrows the choice of nodes. Nodes of one reason stand together; where they are too many for a
    condition, those that came nearest are named and the others counted.
    """
    nodes = f"{counted(len(reasons), 'node')}{f'; {scope}' if scope else ''}"
    if not reasons:
        remedy = "register a node (kubectl get nodes), and check that the watcher runs"
        return f"no node fits ({nodes}). Remedy: {remedy}"
    first = nearest(reasons[name] for name in sorted(reasons))
    head, tail = f"no node fits ({nodes}): ", f". Remedy: {first.remedy}"
    return f"{head}{_causes(reasons, MESSAGE_LIMIT - len(head) - len(tail) - _SPARE)}{tail}"


def _causes(reasons: Mapping[str, Unschedulable], room: int) -> str:
    """Return what each node lacks, in at most so many characters."""
    by_message: dict[str, list[str]] = {}
    for name in sorted(reasons):
        by_message.setdefault(reasons[name].message, []).append(name)
    order = sorted(by_message, key=lambda m: (-reasons[by_message[m][0]].rank, by_message[m]))
    texts: list[str] = []
    remaining = room
    for index, message in enumerate(order):
        text = f"{_names(by_message[message])}: {message}"
        if texts and len(text) > remaining:
            rest = sum(len(by_message[other]) for other in order[index:])
            return "; ".join([*texts, f"and {counted(rest, 'more node')}"])
        texts.append(text if len(text) <= remaining else f"{text[: remaining - 1]}…")
        remaining -= len(text) + 2
    return "; ".join(texts)


def _names(nodes: Sequence[str]) -> str:
    more = len(nodes) - _NAMED_NODES
    return ", ".join(nodes) if more <= 0 else f"{', '.join(nodes[:_NAMED_NODES])} and {more} more"


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
    """Return whether two messages differ at most by a tenth, or by 256 MiB, in their amounts of memory.

    Free device memory changes with every sample; a status write for each would be noise. All else, node
    names with digits included, must be the same.
    """
    if _MEASURED.sub("#", previous) != _MEASURED.sub("#", message):
        return False
    pairs = zip(_MEASURED.findall(previous), _MEASURED.findall(message), strict=True)
    return all(abs(int(a) - int(b)) <= max(_TOLERANCE_MB, _TOLERANCE * int(a)) for a, b in pairs)
