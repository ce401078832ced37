"""What the Models that run or start on a node take of its devices, and the ResourceClaims of others, as the decision on one Model counts it. Pure."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flexinfer.api import conditions
from flexinfer.api.bindings import DRA
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement
from flexinfer.api.sharedgroup import Holder
from flexinfer.events.nodes import DeviceClaim
from flexinfer.placer.memory import Claim
from flexinfer.placer.offers import MIB, by_name
from flexinfer.state.leases import processes_of
from flexinfer.state.observed import Sample

if TYPE_CHECKING:
    from flexinfer.placer.state import PlacementState


def claims_on(placements: "PlacementState", model: Model, node: str, *, assigned: bool) -> Iterator[Claim]:
    """Yield the claims on a node's devices: of its Pods, of what starts before the Model, of the holders of its own group, and of other users."""
    mates = {member.uid for member in placements.other_members(model)} | {model.uid}
    running = placements.occupying(node)
    for other in running:
        if takes_devices(other):
            yield _claim(placements, other, node, leaves=other.uid in mates)
    present = {other.uid for other in running}
    for other in placements.starting(node):
        counts = other.spec.devices and not other.spec.group and other.uid not in present
        if counts and placements.precedes(other, model, assigned=assigned):
            yield _claim(placements, other, node)
    for holder in placements.group_holders(model):
        if holder.node == node and holder.uid not in present:
            need = max((device.memory_mb for device in holder.devices), default=0)
            yield Claim(
                name=holder.label,
                pids=_leased(placements, holder, node),
                uuids=holder.uuids,
                need_mb=need,
                leaves=True,
                leased=bool(holder.lease),
            )
    yield from _foreign(placements, node, running)


def _foreign(placements: "PlacementState", node: str, running: Sequence[Model]) -> Iterator[Claim]:
    """Yield what ResourceClaims of others have of a node's devices; one that a Model's Pod uses is that Model's, whatever its labels."""
    claims = placements.observed.nodes[node].device_claims
    if not claims:
        return
    own = {pod.uid for model in running for pod in placements.pods(model)}
    uuids = by_name(placements.devices(node))
    parts: dict[tuple[str, str], list[DeviceClaim]] = {}
    for one in claims:
        uuid = uuids.get(one.uuid) or uuids.get(one.pci.lower(), "")
        if uuid and own.isdisjoint(one.pods):
            parts.setdefault((one.name, uuid), []).append(one)
    for (name, uuid), of_device in parts.items():
        yield Claim(
            name=f"ResourceClaim {name}{' (a part of it)' if of_device[0].part else ''}",
            pods=frozenset(of_device[0].pods),
            uuids=(uuid,),
            need_mb=-(-sum(one.memory for one in of_device) // MIB),
            whole=not all(one.shared for one in of_device),
            foreign=True,
        )


def _leased(placements: "PlacementState", holder: Holder, node: str) -> frozenset[int]:
    """Return the numbers of the processes that belong to a lease; none for a Model, and without telemetry."""
    sample = placements.observed.gpus.get(node) if holder.lease else None
    devices = {device.uuid: device for device in sample.observed.devices} if sample is not None else {}
    by_device = [
        processes_of(entry, devices[entry.uuid]) for entry in holder.devices if entry.uuid in devices
    ]
    return frozenset(process.pid for processes in by_device for process in processes)


def takes_devices(model: Model) -> bool:
    """Return whether a Model that runs has devices: by its spec, or still by its placement."""
    return model.spec.devices > 0 or bool((model.status.placement or Placement()).devices)


def _claim(placements: "PlacementState", other: Model, node: str, *, leaves: bool = False) -> Claim:
    placement = other.status.placement or Placement()
    devices = placement.devices if placement.node == node else ()
    pods = frozenset(pod.uid for pod in placements.pods(other) if pod.node == node)
    return Claim(
        name=other.key,
        pods=pods,
        uuids=tuple(device.uuid for device in devices),
        need_mb=max((d.memory_mb for d in devices), default=placements.requirements(other).device_mb),
        loaded=bool(pods) and has_loaded(placements, other, node),
        leaves=leaves,
        whole=placement.binding == DRA and not placement.shared,
    )


def has_loaded(placements: "PlacementState", model: Model, node: str) -> bool:
    """Return whether a Model's engine has loaded, and telemetry was taken since."""
    sample = placements.observed.gpus.get(node)
    return sample is not None and loaded_by(
        sample, model, placements.observed.changed(model, conditions.READY)
    )


def loaded_by(sample: Sample, model: Model, since: float | None) -> bool:
    """Return whether a Model's engine, whose condition Ready changed at a time, had loaded when a sample was taken."""
    ready = model.condition(conditions.READY)
    return ready is not None and ready.true and since is not None and sample.at > since


def sampled_since(placements: "PlacementState", model: Model, node: str) -> bool:
    """Return whether a node's telemetry is newer than what may have freed memory for a Model.

    That is the moment when it became wanted, when its own engine changed, or that of another member of its group: an older sample may
    show the memory of an engine that has stopped in between. Only one that is not older proves that a Model does not fit.
    """
    state, sample = placements.observed, placements.observed.gpus.get(node)
    times = [state.changed(model, conditions.WANTED)]
    times += [state.changed(m, conditions.READY) for m in (model, *placements.other_members(model))]
    return sample is not None and all(at is None or sample.at > at for at in times)
