"""Remedies that several refusals have in common, each with its numbers. Pure."""

from collections.abc import Sequence

from flexinfer.api.placement import ESTIMATE
from flexinfer.events.nodes import Device
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Rank, Unschedulable


def lower_memory(
    requirements: Requirements, device_mb: int, *, smaller: bool = False, devices: int = 0
) -> str:
    """Return the remedy that makes the whole Model fit devices of that memory, on so many devices in place of those that it requests.

    `smaller`: a stated figure is not enough, it must become so.
    """
    most = f"{device_mb * (devices or requirements.devices)} MiB or less"
    if requirements.footprint_source == ESTIMATE:
        instance = ", for instance with a smaller quantization" if smaller else ""
        return f"lower spec.gpu.vramEstimateMB to {most}{instance}"
    return f"bring the model to {most} (a smaller quantization, context or number of requests at once), or state its memory in spec.gpu.vramEstimateMB"


def fewer_devices(
    requirements: Requirements, vendor: str, number: int, message: str, devices: Sequence[Device] = ()
) -> Unschedulable:
    """Return the refusal of a node that has only so many devices of a vendor, one at least; `devices` are those that telemetry shows.

    A lower spec.gpu.count is a remedy as it is only where the Model fits on those: each of fewer devices has a larger part of it.
    """
    kind = f"{vendor} devices" if len(requirements.vendors) == 1 else "devices of one vendor"
    more = f"add a node with {requirements.devices} {kind}"
    each_mb = -(-requirements.vram_mb // number)
    largest = sorted((requirements.usable_mb(device) for device in devices), reverse=True)[:number]
    usable_mb = largest[-1] if len(largest) == number else each_mb
    missing = max(0, each_mb - usable_mb)
    remedy = f"lower spec.gpu.count to {number}, or {more}"
    if missing:
        lower = lower_memory(requirements, usable_mb, smaller=True, devices=number)
        remedy = f"{more}, or lower spec.gpu.count to {number} and {lower.removeprefix('lower ')}"
    return Unschedulable(
        message, remedy, Rank.TOO_FEW_DEVICES, missing, missing_devices=requirements.devices - number
    )


def lower_request(name: str) -> str:
    """Return the remedy of a Model that requests more of a resource than a node has: each asks for one Pod, whatever its spec says."""
    if name == "pods":
        return "use a node that takes Pods, or raise the limit of its kubelet (maxPods)"
    return f"lower {name} in spec.resources, or use a larger node"


def free_resource(name: str, node: str) -> str:
    """Return the remedy of a Model that requests more of a resource than is left of a node."""
    if name == "pods":
        return f"delete a Pod on node {node}, or raise the limit of its kubelet (maxPods)"
    return f"stop another workload on node {node}, or lower {name} in spec.resources"
