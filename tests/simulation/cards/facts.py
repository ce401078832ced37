"""What is so of a card: the processes with their owners as the last sample showed them, the requests as proxies count them, and who waits."""

from collections.abc import Iterable, Sequence

from flexinfer.api import conditions
from flexinfer.api.lease import GPULease
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, ONE_AT_A_TIME, Holder, SharedGroup
from flexinfer.arbiter.member import Member, of_lease, of_model
from tests.simulation.cards.processes import Shown
from tests.simulation.cards.world import RECENT_SECONDS, TOTAL_MB, World


class Facts:
    """What laws are judged by, as it is now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sampled: dict[str, float] = {}  # uid -> when the sample was taken by which it was granted

    def member(self, holder: Holder) -> Member | None:
        """Return the Model or lease of an entry, by uid; None if it was deleted."""
        state = self._world.state
        model, lease = (
            state.models.get(f"default/{holder.model}"),
            state.leases.get(f"default/{holder.lease}"),
        )
        if model is not None and model.uid == holder.uid:
            return of_model(model)
        placed = tuple(PlacedDevice(uuid=d.uuid, memory_mb=d.memory_mb) for d in holder.devices)
        if lease is None or lease.uid != holder.uid:
            return None
        return Member(object=lease, placement=Placement(node=holder.node, devices=placed))

    def is_alone(self, member: Member, group: SharedGroup) -> bool:
        """Return whether one is to be the only holder."""
        unknown = any(not need.memory_mb for need in member.placement.devices)
        return bool(group.spec.mode == ONE_AT_A_TIME or member.exclusive or unknown)

    def is_held_elsewhere(self, member: Member, group: SharedGroup) -> bool:
        """Return whether another group holds a card of a member."""
        others = (other for other in self._world.state.groups.values() if other.key != group.key)
        held = {uuid for other in others for holder in other.status.holders for uuid in holder.uuids}
        return bool(held & set(member.placement.uuids))

    def end_is_recorded(self, uuid: str) -> bool:
        """Return whether the last sample says which processes use a card."""
        world = self._world
        return world.now - world.shown_at < RECENT_SECONDS and uuid in world.listed

    def is_short(
        self, group: SharedGroup, need: PlacedDevice, holders: Iterable[Holder], claimed_mb: int = 0
    ) -> bool:
        """Return whether a card lacks room beside holders: each counts with its entry, or with more that it was seen to use."""
        shown = [one for one in self._world.shown if one.uuid == need.uuid]
        on_it = [holder for holder in group.status.holders if need.uuid in holder.uuids]
        own = {holder.uid: [one for one in shown if self._is_of(holder, one)] for holder in on_it}
        known = [one for processes in own.values() for one in processes]
        total = need.memory_mb + claimed_mb + sum(one.mb for one in shown if one not in known)
        for holder in holders:
            entry = sum(held.memory_mb for held in holder.devices if held.uuid == need.uuid)
            total += max(entry, sum(one.mb for one in own.get(holder.uid, ())))
        return total > TOTAL_MB - group.spec.reserve_mb

    def _is_of(self, holder: Holder, process: Shown) -> bool:
        """Return whether a process is of a holder: what began outside of Pods after the last sample before its grant counts as a lease's.

        Whether it began before the grant no telemetry tells.
        """
        game = bool(holder.lease) and not process.owner
        return process.owner == (holder.model or holder.lease) or (
            game and process.began > self.sampled.get(holder.uid, 0.0)
        )

    def is_unrequested(self, member: Member) -> bool:
        """Return whether one makes its initial start, and no request waits for it."""
        wanted = member.model.condition(conditions.WANTED) if member.model is not None else None
        asked = any(self._world.traffic.get(member.object.metadata.name, (0, 0)))
        return wanted is not None and wanted.reason == Reason.FIRST_START and not asked

    def has_only_verified(self, holder: Holder) -> bool:
        """Return whether a holder's engine is ready, and was started for nothing but its initial start."""
        other, name = self.member(holder), holder.model
        model = other.model if other is not None else None
        used = model is None or not model.spec.serverless.enabled or name in self._world.requested
        return holder.step == GRANTED and not used and name in self._world.ready_since

    def waiting(self, group: SharedGroup) -> list[Member]:
        """Return those that are in demand in a group, and not on its list, in their order as far as others tell."""
        state = self._world.state
        every = [of_model(model) for model in state.models.values()]
        every += [of_lease(lease, group, state) for lease in state.leases.values()]
        return sorted((one for one in every if self._waits(one, group)), key=_order)

    def claims_before(
        self, waiter: Member, granted: Member, group: SharedGroup, staying: Sequence[Holder]
    ) -> list[Member]:
        """Return those that are before one in the queue and will have room beside the holders that stay."""
        claims = list[Member]()
        others = (one for one in self.waiting(group) if one.uid not in (waiter.uid, granted.uid))
        for one in others:
            if precedes(one, waiter) and self.has_room(one, group, staying, claims):
                claims.append(one)
        return claims

    def has_room(
        self, member: Member, group: SharedGroup, holders: Sequence[Holder], claims: Sequence[Member]
    ) -> bool:
        """Return whether one has room beside holders, and beside others that are to be granted too."""
        if self.is_held_elsewhere(member, group):
            return False
        others = [*claims, *(other for holder in holders if (other := self.member(holder)) is not None)]
        if others and any(self.is_alone(one, group) for one in (member, *others)):
            return False
        if member.is_lease and any(one.is_lease for one in others):
            return False  # whose a process is could not be told
        claimed = [need for one in claims for need in one.placement.devices]
        return not any(
            self.is_short(group, need, holders, sum(c.memory_mb for c in claimed if c.uuid == need.uuid))
            for need in member.placement.devices
        )

    def _waits(self, member: Member, group: SharedGroup) -> bool:
        if group.holder(member.uid) is not None or member.object.spec.group != group.name:
            return False
        if isinstance(member.object, GPULease):
            return not member.object.deleting and not member.object.ended
        model = member.object
        asked = any(self._world.traffic.get(model.metadata.name, (0, 0))) or not model.spec.serverless.enabled
        return asked and model.is_true(conditions.WANTED)


def precedes(member: Member, waiter: Member) -> bool:
    """Return whether a member is before another in the queue, or may have been when it was granted."""
    if member.priority != waiter.priority:
        return member.priority > waiter.priority
    return member.is_lease or 0 < _position(member) < _position(waiter)


def _order(member: Member) -> tuple[int, bool, int]:
    """Return the place of one in the queue, as far as others tell."""
    return -member.priority, not member.is_lease, _position(member)


def _position(member: Member) -> int:
    membership = member.model.status.shared_group if member.model is not None else None
    return membership.position if membership is not None else 0
