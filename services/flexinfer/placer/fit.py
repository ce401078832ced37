"""Does a Model fit on a node? Compares requirements with what is available there. Pure.

Looks at one Model and one node: what other Models take is already subtracted by
`state.PlacementState.available`, and the choice among nodes is `decide`'s.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.mismatch import (
    Rank,
    Unschedulable,
    amount_text,
    counted,
    hardware_mismatch,
    memory_needed,
    nearest,
    static_mismatches,
)
from flexinfer.placer.requirements import Requirements

STALE_SECONDS = 30.0
"""Telemetry older than this is not used for a new start on a device."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A node that can run a Model. `slack` is what the Model would leave unused: the lowest is chosen."""

    node: str
    vendor: str = "cpu"
    devices: tuple[str, ...] = ()
    architecture: str = ""
    slack: float = 0.0
    score: int = 0
    reason: str = ""


class Available(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has left for one Model: amounts in thousandths, and its devices.

    `recent`: its telemetry is younger than STALE_SECONDS. `trust`: whether measured free memory counts. It
    does not where the memory in use will be freed before the Model starts: then a device needs only to be
    large enough. `models` is how many others are scheduled to the node, `reserved_for` the shared group
    whose devices were subtracted, `reserved` those of them that are known, `preferred` the devices of the
    Model's own group.
    """

    node: NodeFacts
    free: Mapping[str, int]
    devices: Sequence[Device] = ()
    recent: bool = False
    trust: bool = True
    models: int = 0
    reserved_for: str = ""
    reserved: frozenset[str] = frozenset()
    preferred: tuple[str, ...] = ()


def evaluate(requirements: Requirements, available: Available) -> Candidate | Unschedulable:
    """Return how a Model would be placed on a node, or why it cannot be now."""
    reason = next(_unschedulable_reasons(requirements, available), None)
    if reason is not None:
        return reason
    if not requirements.devices:
        return _without_devices(available)
    results = [_with_vendor(requirements, available, vendor) for vendor in requirements.vendors]
    candidate = next((r for r in results if isinstance(r, Candidate)), None)
    return candidate or nearest(r for r in results if isinstance(r, Unschedulable))


def _unschedulable_reasons(requirements: Requirements, available: Available) -> Iterator[Unschedulable]:
    """Yield why a node cannot run a Model, free devices aside; what to fix first comes first."""
    node = available.node
    if node.ready != conditions.TRUE:
        yield Unschedulable("is not ready", "bring the node back (kubectl get nodes)", Rank.NODE_DOWN)
    if node.unschedulable:
        yield Unschedulable("is cordoned", f"run kubectl uncordon {node.name}", Rank.NODE_DOWN)
    yield from static_mismatches(requirements, node, available.devices)
    for name, amount in sorted(requirements.amounts.items()):
        free = max(0, available.free.get(name, 0))
        if name in node.allocatable and amount > free:
            yield Unschedulable(
                f"has {amount_text(name, free)} {name} free, {amount_text(name, amount)} requested",
                f"stop another workload on the node, or lower spec.resources.requests.{name}",
                Rank.IN_USE,
            )


def _without_devices(available: Available) -> Candidate:
    """Return the candidate for a Model without devices: the fewer Models on the node, the better."""
    return Candidate(
        node=available.node.name,
        architecture=available.node.labels.get("kubernetes.io/arch", ""),
        slack=float(available.models),
        reason=f"{counted(available.models, 'other model')} scheduled to the node",
    )


def _with_vendor(requirements: Requirements, available: Available, vendor: str) -> Candidate | Unschedulable:
    """Return the devices of one vendor that the Model would get, or why it cannot have them."""
    refusal = hardware_mismatch(requirements, available.node, available.devices, vendor) or _devices_in_use(
        requirements, available, GPU_RESOURCES[vendor]
    )
    if refusal is not None:
        return refusal
    usable = [d for d in available.devices if d.vendor == vendor and requirements.runs_on(d)]
    offered = [d for d in usable if d.uuid not in available.reserved]
    if available.recent and len(usable) > len(offered) < requirements.devices:
        return _reserved(requirements, available, len(usable))
    if available.recent and usable:
        return _choose_devices(requirements, available, offered)
    if not available.trust:  # their memory is freed before the start, so their number is enough
        return Candidate(node=available.node.name, vendor=vendor)
    message = f"has sent no GPU telemetry for {STALE_SECONDS:.0f}s"
    return Unschedulable(message, "check that the agent runs on the node", Rank.IN_USE)


def _devices_in_use(requirements: Requirements, available: Available, resource: str) -> Unschedulable | None:
    free = max(0, available.free.get(resource, 0)) // 1000
    if free >= requirements.devices:
        return None
    offered = available.node.allocatable.get(resource, 0) // 1000
    reserved = f" (reserved for the shared group {available.reserved_for})" if available.reserved_for else ""
    return Unschedulable(
        f"has {free} of {offered} {resource} free, {requirements.devices} requested{reserved}",
        "stop a model on the node, or let models take turns on the device (the same spec.gpu.shared)",
        Rank.IN_USE,
    )


def _reserved(requirements: Requirements, available: Available, usable: int) -> Unschedulable:
    left = usable - len(available.reserved)
    return Unschedulable(
        f"has {max(0, left)} of {counted(usable, 'device')} that no shared group has, {requirements.devices} requested "
        f"(reserved for the shared group {available.reserved_for})",
        "let models take turns on the device (the same spec.gpu.shared)",
        Rank.IN_USE,
    )


def _choose_devices(
    requirements: Requirements, available: Available, usable: Sequence[Device]
) -> Candidate | Unschedulable:
    """Choose the devices that the Model fills best; if its size is unknown, those with most free memory."""
    free = {d.uuid: min(d.free_mb, d.total_mb) if available.trust else d.total_mb for d in usable}
    large_enough = [d for d in usable if free[d.uuid] >= requirements.vram_mb]
    if len(large_enough) < requirements.devices:
        return _memory_in_use(requirements, max(free.values()))
    sign = 1 if requirements.vram_mb else -1
    order = sorted(
        large_enough, key=lambda d: (d.uuid not in available.preferred, sign * free[d.uuid], d.uuid)
    )
    return _candidate(requirements, available.node.name, order[: requirements.devices], free)


def _memory_in_use(requirements: Requirements, most: int) -> Unschedulable:
    return Unschedulable(
        f"{memory_needed(requirements)}, at most {most} MiB free",
        "free device memory, lower spec.gpu.vramEstimateMB, or share the device with spec.gpu.shared",
        Rank.MEMORY_IN_USE,
    )


def _candidate(
    requirements: Requirements, node: str, devices: Sequence[Device], free: Mapping[str, int]
) -> Candidate:
    total, needed = sum(free[d.uuid] for d in devices), requirements.vram_mb * requirements.devices
    return Candidate(
        node=node,
        vendor=devices[0].vendor,
        devices=tuple(d.uuid for d in devices),
        architecture=devices[0].architecture,
        slack=float(total - needed) if needed else -float(total),
        score=100 * needed // max(1, total),
        reason=f"{total} MiB free on {counted(len(devices), 'device')}",
    )
