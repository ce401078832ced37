"""Member: who holds devices of a shared group or waits for them, a Model or a GPULease, as the queue compares them. Pure."""

from collections.abc import Iterator

import msgspec

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.api.sharedgroup import Holder, SharedGroup
from flexinfer.state.observed import ObservedState


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One of a group: the object, and the devices that it has or would have, with what it needs of each (0: not known, or all of it)."""

    object: Model | GPULease
    placement: Placement

    @property
    def uid(self) -> str:
        """The uid of the object."""
        return self.object.uid

    @property
    def model(self) -> Model | None:
        """The Model; None for a lease."""
        return self.object if isinstance(self.object, Model) else None

    @property
    def is_lease(self) -> bool:
        """Whether it is a GPULease."""
        return isinstance(self.object, GPULease)

    @property
    def label(self) -> str:
        """Its name for people, as `Holder.label`."""
        return label_of(self.object)

    @property
    def priority(self) -> int:
        """Its priority; 0 of a Model that uses no GPU any more, and so leaves anyway."""
        if isinstance(self.object, GPULease):
            return self.object.spec.priority
        return self.object.spec.gpu.priority if self.object.spec.gpu is not None else 0

    @property
    def devices(self) -> int:
        """How many devices it needs."""
        if isinstance(self.object, GPULease):
            return max(1, len(self.placement.devices))
        return self.object.spec.devices

    @property
    def exclusive(self) -> str:
        """Why it shares its devices with none, by its own spec; empty if it does."""
        if isinstance(self.object, GPULease):
            whole = self.object.spec.memory_mb is None
            return f"{self.label} takes the whole of the GPUs (no spec.memoryMB)" if whole else ""
        alone = self.object.spec.gpu is not None and self.object.spec.gpu.exclusive
        return f"{self.label} has spec.gpu.exclusive" if alone else ""


def label_of(subject: Model | GPULease) -> str:
    """Return the name of a Model or GPULease for people, as `Holder.label`."""
    name = subject.metadata.name
    return f"lease {name}" if isinstance(subject, GPULease) else name


def of_model(model: Model) -> Member:
    """Return a Model as a member of its group."""
    return Member(object=model, placement=model.status.placement or Placement())


def of_lease(lease: GPULease, group: SharedGroup, state: ObservedState) -> Member:
    """Return a lease as a member of its group: on the group's devices, with its memory on each."""
    place = place_of(group, state)
    memory_mb = lease.spec.memory_mb or 0
    devices = tuple(PlacedDevice(uuid=uuid, memory_mb=memory_mb) for uuid in place.uuids)
    return Member(object=lease, placement=msgspec.structs.replace(place, devices=devices))


def of_holder(holder: Holder, group: SharedGroup, state: ObservedState) -> Member | None:
    """Return who an entry names, by uid; None if it was deleted. A lease is on the devices of its entry."""
    namespace = group.metadata.namespace
    if not holder.lease:
        model = state.effective(f"{namespace}/{holder.model}")
        return of_model(model) if model is not None and model.uid == holder.uid else None
    lease = state.leases.get(f"{namespace}/{holder.lease}")
    if lease is None or lease.uid != holder.uid:
        return None
    devices = tuple(PlacedDevice(uuid=device.uuid, memory_mb=device.memory_mb) for device in holder.devices)
    place = place_of(group, state)
    return Member(object=lease, placement=msgspec.structs.replace(place, node=holder.node, devices=devices))


def place_of(group: SharedGroup, state: ObservedState) -> Placement:
    """Return the node and the devices of a group: those of its holders, and of its Models there; else those that were granted last.

    Without a node if nothing is known of any: one that was deleted since is none.
    """
    placements = list(_placements(group, state))
    holders, status = group.status.holders, group.status
    nodes = (
        *(holder.node for holder in holders),
        *(placement.node for placement in placements),
        status.node if status.node in state.nodes else "",
    )
    node = next((name for name in nodes if name), "")
    here = [placement for placement in placements if placement.node == node]
    uuids = [uuid for holder in holders if holder.node == node for uuid in holder.uuids]
    uuids += [uuid for placement in here for uuid in placement.uuids]
    last = [device.uuid for device in status.devices] if status.node == node and not uuids else []
    budgeted = any(device.budget_mb is not None for device in status.devices)
    return Placement(
        node=node,
        devices=tuple(PlacedDevice(uuid=uuid) for uuid in dict.fromkeys((*uuids, *last))),
        shared=any(placement.shared for placement in here) if here else budgeted,
    )


def _placements(group: SharedGroup, state: ObservedState) -> Iterator[Placement]:
    """Yield where the Models of a group have GPUs; one that has just joined it may be placed without any yet."""
    for key in sorted(state.members(group.metadata.namespace, group.name)):
        model = state.effective(key)
        placement = model.status.placement if model is not None and model.spec.group == group.name else None
        if placement is not None and placement.node and placement.vendor != "cpu":
            yield placement
