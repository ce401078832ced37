"""Which nodes have GPU memory for a Pod that is none of FlexInfer's. Pure.

Such a Pod says by an annotation how much it needs on all its GPUs together. Its memory is counted as that of a new Model: on the devices
that telemetry shows, without what running Models have and starting ones will take. Everything else about a node (its other resources,
taints, labels) is the scheduler's own. A Pod without the annotation fits everywhere.

What another such Pod will take is not known before its processes have it: two that are scheduled within a second may count on the same
memory, unless they request the device as well (`nvidia.com/gpu`), which the scheduler counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from flexinfer.api.kube import Container
from flexinfer.api.labels import GPU_RESOURCES, VRAM_ESTIMATE_ANNOTATION
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Gpu, Model, ModelSpec
from flexinfer.api.numbers import whole_number
from flexinfer.api.quantity import Quantity, milli
from flexinfer.placer.extender_protocol import HIGHEST_SCORE, PodToSchedule
from flexinfer.placer.fit import (
    AWAITED,
    NONE,
    RECENT,
    Available,
    Candidate,
    choose_devices,
)
from flexinfer.placer.memory import Room
from flexinfer.placer.offers import Offer
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Rank, Unschedulable, nearest
from flexinfer.state.observed import STALE_SECONDS, ObservedState

_SOURCE = "flexinfer"
_PERCENT = 100


class PodRequest(msgspec.Struct, frozen=True):
    """What a Pod asks for: memory in MiB over all its devices, their number, and their vendor (auto: any)."""

    memory_mb: int
    devices: int = 1
    vendor: str = "auto"


def request_of(pod: PodToSchedule) -> PodRequest | str | None:
    """Return what a Pod asks for, or what is wrong with how it says it; None without the annotation."""
    text = pod.metadata.annotations.get(VRAM_ESTIMATE_ANNOTATION)
    if text is None:
        return None
    memory_mb = whole_number(text.strip())
    if not memory_mb:
        return f"the annotation {VRAM_ESTIMATE_ANNOTATION} is {text[:40]!r}; write a whole number of MiB above 0, such as 20480"
    counts = {vendor: _requested(pod, resource) for vendor, resource in GPU_RESOURCES.items()}
    vendors = [vendor for vendor, count in counts.items() if count]
    if len(vendors) > 1:
        return f"it requests GPUs of two vendors, and {VRAM_ESTIMATE_ANNOTATION} does not say which has what; use two Pods"
    return PodRequest(memory_mb, counts[vendors[0]], vendors[0]) if vendors else PodRequest(memory_mb)


def refusals(pod: PodToSchedule, names: Iterable[str], state: ObservedState, now: float) -> Mapping[str, str]:
    """Return why a Pod cannot have a node now, by node; without those that it can have."""
    request = request_of(pod)
    if request is None:
        return {}
    if isinstance(request, str):
        return dict.fromkeys(names, f"{_SOURCE}: {request}")
    placements = PlacementState(state, _as_model(pod.metadata, request), now)
    results = {name: _judged(placements, name) for name in names}
    return {
        name: f"{_SOURCE}: {result.message}"
        for name, result in results.items()
        if isinstance(result, Unschedulable)
    }


def scores(pod: PodToSchedule, names: Iterable[str], state: ObservedState, now: float) -> Mapping[str, int]:
    """Return 0 to 10 for each node: the more of the devices' free memory a Pod fills, the higher."""
    request = request_of(pod)
    if not isinstance(request, PodRequest):
        return dict.fromkeys(names, 0)
    placements = PlacementState(state, _as_model(pod.metadata, request), now)
    return {name: _score(_judged(placements, name)) for name in names}


def _score(result: Candidate | Unschedulable) -> int:
    return result.score * HIGHEST_SCORE // _PERCENT if isinstance(result, Candidate) else 0


def _judged(placements: PlacementState, name: str) -> Candidate | Unschedulable:
    """Return the devices of a node that a Pod would fit on, or why there are none."""
    if name not in placements.observed.nodes:
        return Unschedulable("the node is not observed yet", "", Rank.SILENT)
    requirements = placements.requirements(placements.model)
    available = placements.available(placements.model, name, assigned=False)
    if available.telemetry == NONE:
        return _by_count(available, requirements)
    if available.telemetry != RECENT:
        return _silent(available, placements)
    room_lists = [
        rooms
        for vendor in requirements.vendors
        if (rooms := [room for room in available.rooms if room.device.vendor == vendor])
    ]
    if not room_lists:
        return _without_gpu(requirements)
    results = [choose_devices(requirements, available, rooms, _of_all(rooms)) for rooms in room_lists]
    candidates = [result for result in results if isinstance(result, Candidate)]
    if candidates:
        return min(candidates, key=lambda candidate: candidate.order(available.models))
    reason = nearest(result for result in results if isinstance(result, Unschedulable))
    return msgspec.structs.replace(reason, message=reason.message.removeprefix("model "))


def _of_all(rooms: Sequence[Room]) -> Offer:
    """Return an offer of all devices: how another's Pod gets them is its own matter."""
    return Offer(uuids=frozenset(room.device.uuid for room in rooms))


def _without_gpu(requirements: Requirements) -> Unschedulable:
    vendors = " or ".join(sorted(requirements.vendors))
    message = f"needs {requirements.vram_mb} MiB of GPU memory; the node has no GPU of {vendors}"
    return Unschedulable(message, "", Rank.LABEL)


def _by_count(available: Available, requirements: Requirements) -> Candidate | Unschedulable:
    """Return how a Pod fits on a node that no agent reports on: by what its device plugin offers."""
    vendors = [v for v in requirements.vendors if available.view.offers.get(v, Offer()).number]
    if not vendors:
        return _without_gpu(requirements)
    return Candidate(node=available.node.name, vendor=vendors[0], reason="free memory is not known")


def _silent(available: Available, placements: PlacementState) -> Unschedulable:
    sample = placements.observed.gpus.get(available.node.name)
    if sample is not None:
        message = f"its GPU telemetry is {placements.now - sample.at:.0f}s old, {STALE_SECONDS:.0f}s at most; check the agent on that node"
    elif available.telemetry == AWAITED:
        message = "no GPU telemetry of the node was received yet"
    else:
        message = f"no GPU telemetry of the node for {STALE_SECONDS:.0f}s; check the agent on that node"
    return Unschedulable(message, "", Rank.SILENT)


def _as_model(metadata: Metadata, request: PodRequest) -> Model:
    """Return a Model that asks for the same; no Model can have its name."""
    model_metadata = Metadata(
        name=f"pod:{metadata.name}", namespace=metadata.namespace, uid=f"pod:{metadata.uid}"
    )
    return Model(metadata=model_metadata, spec=_spec_of(request))


@lru_cache(maxsize=256)
def _spec_of(request: PodRequest) -> ModelSpec:
    """Return the spec of such a Model: one and the same for equal requests, since requirements are kept by spec."""
    gpu = Gpu(vendor=request.vendor, count=request.devices, vram_estimate_mb=request.memory_mb)
    return ModelSpec(backend="", source="", gpu=gpu)


def _requested(pod: PodToSchedule, resource: str) -> int:
    """Return how many devices a Pod requests: all containers together, or the init container with most."""
    running = sum(_amount(container, resource) for container in pod.spec.containers)
    return max([running, *(_amount(container, resource) for container in pod.spec.init_containers)])


def _amount(container: Container, resource: str) -> int:
    quantity: Quantity = container.resources.limits.get(
        resource, container.resources.requests.get(resource, 0)
    )
    try:
        return max(0, milli(quantity)) // 1000
    except ValueError:
        return 0  # the API server accepts no such Pod
