"""Static mismatches: what keeps a Model off a node however long it waits: labels, taints, the hardware. Pure.

What is free now, and what other Models take, is `fit`'s.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.requirements import Requirements

_MEBI = 1000 * 2**20


class Rank(enum.IntEnum):
    """How near a node came to fitting: the remedy that a user reads is that of the highest."""

    NODE_DOWN = 0
    TAINT = 1
    LABEL = 2
    TOO_FEW_DEVICES = 3
    INCOMPATIBLE = 4
    TOO_SMALL = 5
    IN_USE = 6
    MEMORY_IN_USE = 7


class Unschedulable(msgspec.Struct, frozen=True):
    """Why a node cannot run a Model, as the rest of a sentence about the node, and what would help."""

    message: str
    remedy: str
    rank: Rank


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
        reasons = [hardware_mismatch(requirements, node, devices, vendor) for vendor in requirements.vendors]
        if None not in reasons:
            yield nearest(reason for reason in reasons if reason is not None)
    for name, amount in sorted(requirements.amounts.items()):
        total = node.allocatable.get(name)
        if total is not None and amount > total:
            message = f"has {amount_text(name, total)} {name} in total, {amount_text(name, amount)} requested"
            yield Unschedulable(message, f"lower spec.resources.requests.{name}", Rank.TOO_SMALL)


def _repelling_taints(requirements: Requirements, node: NodeFacts) -> Iterator[Unschedulable]:
    for taint in node.taints:
        if not requirements.tolerates(taint):
            name = f"{taint.key}={taint.value}" if taint.value else taint.key
            remedy = f"remove the taint (kubectl taint nodes {node.name} {taint.key}:{taint.effect}-)"
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
    if not reported:
        return None
    usable = [device for device in reported if requirements.runs_on(device)]
    if len(usable) < requirements.devices:
        return _incompatible(requirements, reported)
    if sum(device.total_mb >= requirements.vram_mb for device in usable) < requirements.devices:
        return _too_small(requirements, max(device.total_mb for device in usable))
    return None


def _too_few(requirements: Requirements, resource: str, offered: int) -> Unschedulable:
    return Unschedulable(
        f"offers {offered} {resource}, {requirements.devices} requested",
        f"use a node that offers them, or change spec.gpu{'.count' if offered else ''}",
        Rank.TOO_FEW_DEVICES if offered else Rank.LABEL,
    )


def _incompatible(requirements: Requirements, reported: Sequence[Device]) -> Unschedulable:
    """Return the refusal of devices of which too few can run the engine."""
    unusable = next((device for device in reported if not requirements.runs_on(device)), None)
    remedy = "use another spec.backend or another node"
    if unusable is None:
        message = f"reports {counted(len(reported), 'device')}, {requirements.devices} requested"
        remedy = "check the node's driver and agent"
    elif not unusable.healthy:
        message, remedy = f"{_named(unusable)} is unhealthy", "repair the device, or use another node"
    else:
        reason = requirements.unsupported_reason(unusable)
        message = f"{_named(unusable)} cannot run {requirements.backend}{f': {reason}' if reason else ''}"
    return Unschedulable(message, remedy, Rank.INCOMPATIBLE)


def _named(device: Device) -> str:
    name = device.name or device.uuid
    return f"{name} ({device.architecture})" if device.architecture else name


def _too_small(requirements: Requirements, largest: int) -> Unschedulable:
    return Unschedulable(
        f"{memory_needed(requirements)}, the largest has {largest} MiB",
        "lower spec.gpu.vramEstimateMB, for instance with a smaller quantization",
        Rank.TOO_SMALL,
    )


def memory_needed(requirements: Requirements) -> str:
    """Return what a Model needs of its devices' memory."""
    return f"model needs {requirements.vram_mb} MiB on {_each(requirements.devices)}"


def _each(devices: int) -> str:
    return "1 device" if devices == 1 else f"each of {devices} devices"


def nearest(reasons: Iterable[Unschedulable]) -> Unschedulable:
    """Return the reason of the highest rank. Raises ValueError if there is none."""
    return max(reasons, key=lambda reason: reason.rank)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 device`, `2 devices`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def amount_text(name: str, thousandths: int) -> str:
    """Return an amount as Kubernetes writes it: `2048Mi`, `1.5`."""
    if name in ("memory", "ephemeral-storage"):
        return f"{thousandths / _MEBI:.0f}Mi"
    return f"{thousandths / 1000:g}"
