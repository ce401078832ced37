"""Static mismatches: what keeps a Model off a node however long it waits: labels, taints, the hardware. Pure.

What is free now, and what other Models take, is `fit`'s.
"""

from collections.abc import Iterator, Sequence

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.devices import could_suit, static_refusal, too_few
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Rank, Unschedulable, amount_text, nearest


def static_mismatch(
    requirements: Requirements, node: NodeFacts, devices: Sequence[Device]
) -> Unschedulable | None:
    """Return why a node cannot run a Model whatever is free there; None if it could."""
    return next(static_mismatches(requirements, node, devices), None)


def static_mismatches(
    requirements: Requirements, node: NodeFacts, devices: Sequence[Device]
) -> Iterator[Unschedulable]:
    """Yield all of them; what to fix first comes first."""
    yield from _repelling_taints(requirements, node)
    yield from _missing_labels(requirements, node)
    if requirements.devices:
        yield from _hardware_mismatches(requirements, node, devices)
    for name, amount in sorted(requirements.amounts.items()):
        total = node.allocatable.get(name)
        if total is not None and amount > total:
            message = f"has {amount_text(name, total)} {name} in total, {amount_text(name, amount)} requested"
            yield Unschedulable(message, f"lower spec.resources.requests.{name}", Rank.TOO_SMALL)


def _hardware_mismatches(
    requirements: Requirements, node: NodeFacts, devices: Sequence[Device]
) -> Iterator[Unschedulable]:
    """Yield why no vendor's devices can run a Model, unless those of one can."""
    reasons = []
    for vendor in requirements.vendors:
        reason = hardware_mismatch(requirements, node, devices, vendor)
        if reason is None:
            return
        reasons.append(reason)
    yield nearest(reasons)


def _repelling_taints(requirements: Requirements, node: NodeFacts) -> Iterator[Unschedulable]:
    for taint in node.taints:
        if not requirements.tolerates(taint):
            name = f"{taint.key}={taint.value}" if taint.value else taint.key
            remedy = f"add it to spec.tolerations, or remove it (kubectl taint nodes {node.name} {taint.key}:{taint.effect}-)"
            yield Unschedulable(f"has the taint {name}:{taint.effect}", remedy, Rank.TAINT)


def _missing_labels(requirements: Requirements, node: NodeFacts) -> Iterator[Unschedulable]:
    for label, value in sorted(requirements.selector.items()):
        current = node.labels.get(label)
        if current is None:
            message = f"has no label {label}={value}"
        elif current != value:
            message = f"has the label {label}={current}, {value} required"
        else:
            continue
        yield Unschedulable(message, "label a node, or change spec.nodeSelector", Rank.LABEL)


def hardware_mismatch(
    requirements: Requirements, node: NodeFacts, devices: Sequence[Device], vendor: str
) -> Unschedulable | None:
    """Return why a vendor's devices of a node can never run a Model.

    Without telemetry only their number is known, and only that can be a mismatch.
    """
    resource = GPU_RESOURCES[vendor]
    offered = node.allocatable.get(resource, 0) // 1000
    if offered < requirements.devices:
        return _too_few(requirements, resource, offered)
    reported = [device for device in devices if device.vendor == vendor]
    need = requirements.device_mb
    fitting = sum(could_suit(requirements, device, need) for device in reported)
    if not reported or fitting >= requirements.devices:
        return None
    refusals = [static_refusal(requirements, device) for device in reported]
    return too_few(requirements, reported, refusals)


def _too_few(requirements: Requirements, resource: str, offered: int) -> Unschedulable:
    return Unschedulable(
        f"offers {offered} {resource}, {requirements.devices} requested",
        f"use a node that offers them, or change spec.gpu{'.count' if offered else ''}",
        Rank.TOO_FEW_DEVICES if offered else Rank.LABEL,
    )
