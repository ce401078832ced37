"""Can a Model have a device, and if not, why, with the numbers? Pure.

What never changes while the hardware stays (`static_refusal`), and what may change at any time (`refusal`).
"""

from collections.abc import Iterable, Sequence

import msgspec

from flexinfer.api.bindings import DEVICE_PLUGIN
from flexinfer.api.labels import ALLOW_UNSUPPORTED_ANNOTATION, GPU_RESOURCES
from flexinfer.api.numbers import counted
from flexinfer.events.nodes import Device
from flexinfer.placer.footprint import source_text
from flexinfer.placer.memory import Room
from flexinfer.placer.offers import Offer
from flexinfer.placer.remedies import fewer_devices, lower_memory
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Rank, Unschedulable, nearest


def static_refusal(requirements: Requirements, device: Device) -> Unschedulable | None:
    """Return why a device can never run a Model, as the rest of a sentence about the device; None if it could."""
    if not device.healthy:
        errors = f" ({', '.join(device.errors)})" if device.errors else ""
        return Unschedulable(
            f"is unhealthy{errors}", "repair the device, or use another node", Rank.INCOMPATIBLE
        )
    if reason := requirements.unsupported_reason(device):
        remedy = (
            "use another spec.backend or another node, or, if you know that it works there, annotate the Model with "
            f"{ALLOW_UNSUPPORTED_ANNOTATION}: <why>"
        )
        return Unschedulable(f"cannot run {requirements.backend}: {reason}", remedy, Rank.INCOMPATIBLE)
    missing = requirements.device_mb - requirements.usable_mb(device)
    return _too_small(requirements, device, missing) if missing > 0 else None


def _too_small(requirements: Requirements, device: Device, missing: int) -> Unschedulable:
    """Return that a device is too small, and where the reserve of the Model's group alone makes it so, that a lower one helps too."""
    message, remedy = (
        f"has {device.total_mb} MiB in all",
        lower_memory(requirements, requirements.usable_mb(device), smaller=True),
    )
    if requirements.reserve_mb:
        message = f"{message}, {requirements.reserve_mb} of them in reserve"
    lower = requirements.reserve_mb - missing
    if lower >= 0:
        remedy = f"{remedy}, or set spec.reserveMB of its SharedGroup to {lower} or less"
    return Unschedulable(message, f"{remedy}, or add a larger device", Rank.TOO_SMALL, missing)


def suits(requirements: Requirements, room: Room, device_mb: int, offer: Offer) -> bool:
    """Return whether a Model that needs so much of a device can have it now: whether there is no `refusal`, without its words."""
    return (
        offer.memory(room.device.uuid, device_mb) <= room.free_mb
        and not (room.taken_by or room.allocated_to)
        and not room.reserved_for
        and could_suit(requirements, room.device, device_mb, offer)
    )


def could_suit(requirements: Requirements, device: Device, device_mb: int, offer: Offer) -> bool:
    """Return whether there is neither a `static_refusal` nor a `not_given`, without their words."""
    if not device.healthy or device_mb > requirements.usable_mb(device) or device.uuid not in offer.uuids:
        return False
    return not requirements.unsupported_reason(device) and offer.excess(device.uuid, device_mb) <= 0


def not_given(requirements: Requirements, device: Device, offer: Offer) -> Unschedulable | None:
    """Return why Pods cannot get a device as the node gives them, as the rest of a sentence about it; None if they can."""
    uuid, source = device.uuid, offer.driver or f"its RuntimeClass {offer.runtime_class}"
    if uuid in offer.dra and uuid not in offer.uuids:
        remedy = (
            f"remove the taint from the device (kubectl get resourceslices), or see what {source} reports"
        )
        return Unschedulable(f"is tainted by the DRA driver {source}", remedy, Rank.INCOMPATIBLE)
    if uuid not in offer.uuids:
        return Unschedulable(
            f"is not given to Pods by {source}", "offer it, or use another node", Rank.INCOMPATIBLE
        )
    missing = offer.excess(uuid, requirements.device_mb)
    if missing <= 0:
        return None
    largest = offer.memory(uuid, requirements.device_mb) - missing
    remedy = lower_memory(requirements, largest)
    return Unschedulable(
        f"is given with at most {largest} MiB by {source}, which rounds the request to {largest + missing} MiB",
        remedy,
        Rank.TOO_SMALL,
        missing,
    )


def refusal(requirements: Requirements, room: Room, node: str, offer: Offer) -> Unschedulable | None:
    """Return why a Model cannot have a device now, as the rest of a sentence about the device; None if it can."""
    static = static_refusal(requirements, room.device) or not_given(requirements, room.device, offer)
    if static is not None:
        return static
    if room.reserved_for:
        return Unschedulable(
            f"is reserved for the shared group {room.reserved_for}",
            f"let the model take turns with that group (spec.gpu.shared: {room.reserved_for})",
            Rank.IN_USE,
        )
    if room.taken_by:
        return Unschedulable(
            f"is used by {room.taken_by}",
            f"let it and {room.taken_by} take turns on the device (the same spec.gpu.shared), or stop that model",
            Rank.IN_USE,
        )
    if room.allocated_to:
        remedy = "delete the Pod that uses it, or use another device (kubectl get resourceclaims -A)"
        return Unschedulable(f"is allocated to {room.allocated_to}", remedy, Rank.IN_USE)
    missing = offer.memory(room.device.uuid, requirements.device_mb) - room.free_mb
    return _too_full(requirements, room, node, missing) if missing > 0 else None


def _too_full(requirements: Requirements, room: Room, node: str, missing: int) -> Unschedulable:
    uses = f" ({', '.join(use.text for use in room.uses)})" if room.uses else ""
    message = f"has {room.free_mb} MiB of {room.device.total_mb} MiB free{uses}"
    largest = room.uses[0] if room.uses else None
    if largest is None or not largest.by or largest.mb < missing:
        remedy = f"free {missing} MiB on node {node}"
    elif largest.claimed:
        remedy = f"delete the Pod that uses {largest.by}"
    elif largest.foreign:
        remedy = f"stop {largest.by} on node {node}"
    else:
        remedy = f"let it and {largest.by} take turns on the device (the same spec.gpu.shared)"
    if room.free_mb:
        remedy = f"{remedy}, or {lower_memory(requirements, room.free_mb)}"
    return Unschedulable(message, remedy, Rank.MEMORY_IN_USE, missing)


def too_few(
    requirements: Requirements,
    devices: Sequence[Device],
    refusals: Sequence[Unschedulable | None],
    offer: Offer,
) -> Unschedulable:
    """Return the refusal of a node by its devices of one vendor, each with its own reason; the remedy is that of the nearest.

    Where there are fewer than are requested, no change of the single ones helps, unless none of them can be used at all.
    """
    fit = sum(reason is None for reason in refusals)
    usable = [d for d, reason in zip(devices, refusals, strict=True) if _is_usable(reason)]
    if usable and len(devices) < requirements.devices:
        return _too_few_reported(requirements, devices, usable, offer)
    first = nearest(reason for reason in refusals if reason is not None)
    each = "; ".join(
        f"{name} {reason.message if reason is not None else 'fits'}"
        for name, reason in zip(named(devices), refusals, strict=True)
    )
    head = memory_needed(requirements)
    if requirements.devices > 1:
        head = f"{head}, {counted(fit, 'device')} {'fits' if fit == 1 else 'fit'}"
    more = _more(requirements, usable, offer) if first.rank == Rank.TOO_SMALL else ""
    remedy = f"{more}, or {first.remedy}" if more else first.remedy
    return Unschedulable(f"{head}: {each}" if head else each, remedy, first.rank, first.missing)


def _is_usable(reason: Unschedulable | None) -> bool:
    """Return whether a device is refused for nothing but what a smaller or later Model would not be refused for."""
    return reason is None or reason.rank > Rank.INCOMPATIBLE


def _more(requirements: Requirements, devices: Sequence[Device], offer: Offer) -> str:
    """Return the remedy of a Model whose part is too large for single devices, but would not be on more of them; empty if there is none."""
    most = min(requirements.most_devices or len(devices), len(devices), offer.number or len(devices))
    for number in range(requirements.devices + 1, most + 1):
        each_mb = -(-requirements.vram_mb // number)
        if sum(could_suit(requirements, device, each_mb, offer) for device in devices) >= number:
            return f"raise spec.gpu.count to {number}"
    return ""


def _too_few_reported(
    requirements: Requirements, devices: Sequence[Device], usable: Sequence[Device], offer: Offer
) -> Unschedulable:
    """Return that telemetry shows too few devices; a device plugin may offer each of them several times, or one that the agent does not see."""
    vendor, number = devices[0].vendor, len(devices)
    parts = offer.binding == DEVICE_PLUGIN and offer.number > number
    parts_text = f", offered as {offer.number} {GPU_RESOURCES[vendor]}" if parts else ""
    message = f"reports {counted(number, f'{vendor} device')}{parts_text}, {requirements.devices} requested"
    reason = fewer_devices(requirements, vendor, len(usable), message, usable)
    unseen = "; if a node has more than it reports, flexinfer gpus --here on it says why"
    return msgspec.structs.replace(reason, remedy=f"{reason.remedy}{unseen}") if parts else reason


def memory_needed(requirements: Requirements) -> str:
    """Return what a Model needs of its devices' memory; empty if that is not known and one device is enough."""
    if requirements.device_mb:
        each = "1 device" if requirements.devices == 1 else f"each of {requirements.devices} devices"
        return (
            f"model needs {requirements.device_mb} MiB{source_text(requirements.footprint_source)} on {each}"
        )
    return f"model needs {requirements.devices} devices" if requirements.devices > 1 else ""


def named(devices: Iterable[Device]) -> list[str]:
    """Return devices as people know them: by name and architecture, and by uuid where that is not enough."""
    every = list(devices)
    names = [device.name or device.uuid for device in every]
    return [
        f"{name} {device.uuid}" if names.count(name) > 1 and device.name else _with_architecture(name, device)
        for name, device in zip(names, every, strict=True)
    ]


def _with_architecture(name: str, device: Device) -> str:
    return f"{name} ({device.architecture})" if device.architecture else name
