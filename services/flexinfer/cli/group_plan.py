"""With whom a planned Model shares the devices of its group, and whether they fit there at once. Pure.

The sum is that of the placer's requirements; which of them leaves for which is the arbiter's to decide, once they run.
"""

from collections.abc import Iterator

import msgspec

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement
from flexinfer.api.sharedgroup import Holder
from flexinfer.placer.state import PlacementState
from flexinfer.state.index import should_run
from flexinfer.state.observed import ObservedState


class _Other(msgspec.Struct, frozen=True):
    """Another user of the devices: its label, what it needs of a device in MiB (0: unknown), and whether it runs alone."""

    label: str
    device_mb: int
    alone: bool = False


def holders_of(state: ObservedState, candidate: Model) -> tuple[str, ...]:
    """Return the labels of the others that hold the devices of a Model's shared group."""
    return tuple(sorted(_label(candidate, holder) for holder in _holders(state, candidate)))


def sharing(state: ObservedState, candidate: Model, placement: Placement, now: float) -> str:
    """Return who else is on the devices, and whether all fit at once; empty if no other member of its group is. `state` has the Model."""
    placements = PlacementState(state, candidate, now)
    others = sorted(_others(placements, candidate), key=lambda other: other.label)
    if not others:
        return ""
    names = ", ".join(other.label for other in others)
    requirements = placements.requirements(candidate)
    sizes = [requirements.device_mb, *(other.device_mb for other in others)]
    devices = [d for d in placements.devices(placement.node) if d.uuid in placement.uuids]
    if _exclusive(candidate) or any(other.alone for other in others) or not devices or not all(sizes):
        return f"it takes turns with the others of its shared group: {names}"
    usable = min(requirements.usable_mb(device) for device in devices)
    figures = f"together they need {sum(sizes)} of {usable} MiB"
    if sum(sizes) > usable:
        return f"it takes turns with the others of its shared group: {names} ({figures})"
    return f"it runs at the same time as the others of its shared group: {names} ({figures})"


def _others(placements: PlacementState, candidate: Model) -> Iterator[_Other]:
    """Yield who else holds the devices of the group or is to run on them: members, and leases."""
    holders = _holders(placements.observed, candidate)
    uids = {holder.uid for holder in holders}
    for member in placements.members(candidate):
        if member.key != candidate.key and (member.uid in uids or should_run(member)):
            yield _Other(member.key, placements.requirements(member).device_mb, _exclusive(member))
    for holder in holders:
        if holder.lease:
            most = max((device.memory_mb for device in holder.devices), default=0)
            yield _Other(_label(candidate, holder), most)


def _holders(state: ObservedState, candidate: Model) -> list[Holder]:
    name, namespace = candidate.metadata.name, candidate.metadata.namespace
    group = state.group(namespace, candidate.spec.group) if candidate.spec.group else None
    holders = group.status.holders if group is not None else ()
    return [holder for holder in holders if holder.lease or holder.model != name]


def _label(candidate: Model, holder: Holder) -> str:
    key = f"{candidate.metadata.namespace}/{holder.model or holder.lease}"
    return f"lease {key}" if holder.lease else key


def _exclusive(model: Model) -> bool:
    return (model.spec.gpu or Gpu()).exclusive
