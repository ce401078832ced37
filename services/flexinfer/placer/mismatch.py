"""Static mismatches: what keeps a Model off a node however long it waits: labels, taints, the hardware. Pure.

What is free now, and what other Models take, is `fit`'s.
"""

from collections.abc import Callable, Sequence
from itertools import islice

from flexinfer.api.bindings import DEVICE_PLUGIN, DRA, VISIBLE
from flexinfer.api.dra import driver_of
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.numbers import counted
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.devices import could_suit, not_given, static_refusal, too_few
from flexinfer.placer.offers import Offer, Offers
from flexinfer.placer.remedies import fewer_devices, lower_request
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Rank, Unschedulable, amount_text, nearest

_FEWER = Rank.TOO_FEW_DEVICES
_AGENT = "kubectl get pods -A -o wide | grep "
_UNOFFERED_REMEDY = {
    DEVICE_PLUGIN: "see in the log of its device plugin why it does not offer all (kubectl get pods -A -o wide | grep {node})",
    DRA: "see why its DRA driver does not list all (kubectl get resourceslices)",
    VISIBLE: "install a device plugin or DRA driver, since its container runtime has no name for the others (docs/how-to/bind-a-gpu.md)",
}
"""What helps where a node has devices that it does not offer, by how it offers them."""
_CONDITION_TAINTS = {
    "node.kubernetes.io/disk-pressure": "free disk space on node {node}",
    "node.kubernetes.io/memory-pressure": "free memory on node {node}",
    "node.kubernetes.io/pid-pressure": "end processes on node {node}",
    "node.kubernetes.io/network-unavailable": "see why the network of node {node} is not set up (kubectl describe node {node})",
    "node.cloudprovider.kubernetes.io/uninitialized": "see why the cloud provider has not initialized node {node}",
}
"""Taints that Kubernetes adds again as long as their cause lasts, and what ends that."""


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
            return Unschedulable(message, lower_request(name), Rank.TOO_SMALL)
    return None


def _repelling_taint(requirements: Requirements, node: NodeFacts) -> Unschedulable | None:
    for taint in node.taints:
        if not requirements.tolerates(taint):
            name = f"{taint.key}={taint.value}" if taint.value else taint.key
            remedy = f"add it to spec.tolerations, or remove it (kubectl taint nodes {node.name} {taint.key}:{taint.effect}-)"
            if taint.key in _CONDITION_TAINTS:
                remedy = _CONDITION_TAINTS[taint.key].format(node=node.name)
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
    # Devices that a driver lists but has tainted are refused one by one: it is not their number that is wrong.
    if max(offer.number, len(offer.dra)) < requirements.devices:
        if not devices and any(driver_of(d.driver).vendor in ("", vendor) for d in node.dra):
            return _unnamed(node)
        return _too_few(requirements, node, vendor, offer, vendor_devices)
    need = requirements.device_mb
    fitting = (device for device in vendor_devices if could_suit(requirements, device, need, offer))
    if not vendor_devices or sum(1 for _ in islice(fitting, requirements.devices)) == requirements.devices:
        return None
    refusals = [static_refusal(requirements, d) or not_given(requirements, d, offer) for d in vendor_devices]
    return too_few(requirements, vendor_devices, refusals, offer)


def _too_few(
    requirements: Requirements, node: NodeFacts, vendor: str, offer: Offer, devices: Sequence[Device]
) -> Unschedulable:
    """Return that a node gives its Pods too few devices of a vendor; `devices` are those that telemetry reports."""
    if devices and not offer.binding:
        return _unoffered(vendor, len(devices))
    number, count = offer.number, requirements.devices
    by = {DRA: f" by the DRA driver {offer.driver}", VISIBLE: f" by its RuntimeClass {offer.runtime_class}"}
    what = f"{counted(number, f'{vendor} device')}{by[offer.binding]}" if offer.binding in by else ""
    message = f"offers {what or f'{number} {GPU_RESOURCES[vendor]}'}, {count} requested"
    if devices and (len(devices) >= count or not number):
        reports = f"{message}, though its agent reports {counted(len(devices), f'{vendor} device')}"
        lower = f", or lower spec.gpu.count to {number}" if number else ""
        remedy = f"{_UNOFFERED_REMEDY[offer.binding].format(node=node.name)}{lower}"
        return Unschedulable(reports, remedy, _FEWER, missing_devices=count - number)
    if not number:
        return Unschedulable(message, "use a node that offers them, or change spec.gpu", Rank.LABEL)
    usable = [device for device in devices if device.uuid in offer.uuids]
    return fewer_devices(requirements, vendor, number, message, usable)


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
