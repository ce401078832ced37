"""Static mismatches: what keeps a Model off a node however long it waits: labels, taints, the hardware. Pure.

What is free now, and what other Models take, is `fit`'s.
"""

from collections.abc import Callable, Sequence
from itertools import islice

from flexinfer.api.dra import driver_of
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.numbers import counted
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.devices import could_suit, not_given, static_refusal, too_few
from flexinfer.placer.offers import Offer, Offers
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Rank, Unschedulable, amount_text, nearest

_FEWER = Rank.TOO_FEW_DEVICES
_AGENT = "kubectl get pods -A -o wide | grep "


def static_mismatch(
    requirements: Requirements, node: NodeFacts, of_vendor: Callable[[str], Unschedulable | None]
) -> Unschedulable | None:
    """Return why a node cannot run a Model whatever is free there, what to fix first before all else; None if it could.

    `of_vendor` is `hardware_mismatch` there.
    """
    return (
        _repelling_taint(requirements, node)
        or _missing_label(requirements, node)
        or (_missing_hardware(requirements, of_vendor) if requirements.devices else None)
        or _too_small(requirements, node)
    )


def _missing_hardware(
    requirements: Requirements, of_vendor: Callable[[str], Unschedulable | None]
) -> Unschedulable | None:
    """Return why the devices of no vendor can run a Model; None if those of one could."""
    reasons = []
    for vendor in requirements.vendors:
        reason = of_vendor(vendor)
        if reason is None:
            return None
        reasons.append(reason)
    return nearest(reasons)


def _too_small(requirements: Requirements, node: NodeFacts) -> Unschedulable | None:
    for name, amount in requirements.amounts.items():
        total = node.allocatable.get(name)
        if total is not None and amount > total:
            message = f"has {amount_text(name, total)} {name} in total, {amount_text(name, amount)} requested"
            return Unschedulable(message, f"lower spec.resources.requests.{name}", Rank.TOO_SMALL)
    return None


def _repelling_taint(requirements: Requirements, node: NodeFacts) -> Unschedulable | None:
    for taint in node.taints:
        if not requirements.tolerates(taint):
            name = f"{taint.key}={taint.value}" if taint.value else taint.key
            remedy = f"add it to spec.tolerations, or remove it (kubectl taint nodes {node.name} {taint.key}:{taint.effect}-)"
            return Unschedulable(f"has the taint {name}:{taint.effect}", remedy, Rank.TAINT)
    return None


def _missing_label(requirements: Requirements, node: NodeFacts) -> Unschedulable | None:
    for label, value in sorted(requirements.selector.items()) if requirements.selector else ():
        current = node.labels.get(label)
        if current is None:
            message = f"has no label {label}={value}"
        elif current != value:
            message = f"has the label {label}={current}, {value} required"
        else:
            continue
        return Unschedulable(message, "label a node, or change spec.nodeSelector", Rank.LABEL)
    return None


def hardware_mismatch(
    requirements: Requirements, node: NodeFacts, devices: Sequence[Device], vendor: str, offers: Offers
) -> Unschedulable | None:
    """Return why a vendor's devices of a node can never run a Model.

    Without telemetry only the number of a device plugin's is known, and only that can be a mismatch.
    """
    offer = offers.get(vendor, Offer())
    vendor_devices = [device for device in devices if device.vendor == vendor]
    if offer.number < requirements.devices:
        if not devices and any(driver_of(d.driver).vendor in ("", vendor) for d in node.dra):
            return _unnamed(node)
        return _too_few(requirements, vendor, offer, len(vendor_devices))
    need = requirements.device_mb
    fitting = (device for device in vendor_devices if could_suit(requirements, device, need, offer))
    if not vendor_devices or sum(1 for _ in islice(fitting, requirements.devices)) == requirements.devices:
        return None
    refusals = [static_refusal(requirements, d) or not_given(requirements, d, offer) for d in vendor_devices]
    return too_few(requirements, vendor_devices, refusals)


def _too_few(requirements: Requirements, vendor: str, offer: Offer, device_count: int) -> Unschedulable:
    """Return that a node gives its Pods too few devices of a vendor, of those that telemetry reports."""
    resource, request = GPU_RESOURCES[vendor], f"{requirements.devices} requested"
    if offer.driver:
        message = (
            f"offers {counted(offer.number, f'{vendor} device')} by the DRA driver {offer.driver}, {request}"
        )
        return Unschedulable(message, "use a node that offers them, or change spec.gpu.count", _FEWER)
    if device_count and not offer.binding:
        return _unoffered(vendor, device_count)
    return Unschedulable(
        f"offers {offer.number} {resource}, {request}",
        f"use a node that offers them, or change spec.gpu{'.count' if offer.number else ''}",
        _FEWER if offer.number else Rank.LABEL,
    )


def _unnamed(node: NodeFacts) -> Unschedulable:
    """Return that a DRA driver offers devices of which telemetry names none."""
    message = f"offers devices by the DRA driver {node.dra[0].driver}, but has sent no GPU telemetry that names them"
    return Unschedulable(message, f"check that the agent runs on the node: {_AGENT}{node.name}", Rank.SILENT)


def _unoffered(vendor: str, device_count: int) -> Unschedulable:
    """Return that the devices of a node are seen by its agent, but given to Pods in no way."""
    message = f"has {counted(device_count, f'{vendor} device')}, but neither a device plugin nor a DRA driver gives Pods any"
    remedy = (
        f"install one of the two, or set FLEXINFER_RUNTIME_CLASS_{vendor.upper()} (docs/how-to/bind-a-gpu.md)"
    )
    return Unschedulable(message, remedy, _FEWER)
