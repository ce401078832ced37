"""The laws of a card: each grant and each preemption is judged by what is so, not by what the arbiter computes.

What is so are the processes with their owners as the last sample showed them, the requests as the proxies count them, and when engines became ready.
"""

from collections.abc import Iterable

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import (
    GRANTED,
    ONE_AT_A_TIME,
    STOPPED,
    Holder,
    SharedGroup,
    SharedGroupStatus,
    object_name,
)
from flexinfer.arbiter.member import Member, of_model
from tests.simulation.cards.processes import Shown
from tests.simulation.cards.world import LOAD_SECONDS, RECENT_SECONDS, TOTAL_MB, World

_ROUNDING, LATE_SECONDS = 0.001, 3.0
"""How long a decision that is due may take: it is carried out later, and looked at with the next heartbeat."""


class Laws:
    """Reports to the world what breaks a law."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._turns: dict[str, int] = {}
        self._stopped: dict[str, float] = {}  # uid -> when its engine had stopped
        self._released: dict[
            str, float
        ] = {}  # group -> when the last of those that are off its list had stopped
        self._granted: dict[str, float] = {}  # uid -> when
        self._promised: dict[str, str] = {}  # group -> uid of the one for which a holder had to leave
        self._queued: dict[tuple[str, str], float] = {}  # uid, group -> since when
        self._overdue: dict[str, float] = {}  # uid -> since when nothing but the arbiter keeps it waiting

    def forget(self) -> None:
        """Let another arbiter begin: it does not know since when one is queued, and only what comes later tells what was released."""
        self._queued.clear()
        self._overdue.clear()
        turns = [group.key for group in self._world.state.groups.values() if group.status.turn]
        self._released = dict.fromkeys(turns, self._world.now)

    # --- writes of a group

    def written(self, group: SharedGroup, new: SharedGroupStatus, member: Member | None) -> None:
        """Judge the status of a group before it is written; `member` is the one that is granted."""
        uids = [holder.uid for holder in new.holders]
        if new.turn < self._turns.get(group.key, 0) or len(set(uids)) < len(uids):
            self._world.report_problem(
                f"turn {self._turns[group.key]} -> {new.turn}, entries {uids} of {group.name}"
            )
        self._turns[group.key] = new.turn
        self._note_stops(group, new)
        holder = next((h for h in new.holders if member is not None and h.uid == member.uid), None)
        if member is None or holder is None:
            return
        self._judge_entries(group, new)
        for held in holder.devices:
            self._judge_memory(group, holder, PlacedDevice(uuid=held.uuid, memory_mb=held.memory_mb))
        self._judge_alone(group, member)
        self._judge_kept_room(group, holder, member)
        self._granted[holder.uid] = self._world.now

    def _note_stops(self, group: SharedGroup, new: SharedGroupStatus) -> None:
        now, steps = self._world.now, {holder.uid: holder.step for holder in new.holders}
        for holder in group.status.holders:
            if holder.uid not in steps:
                stopped = self._stopped.pop(holder.uid, now)
                self._released[group.key] = max(self._released.get(group.key, 0.0), stopped)
            elif steps[holder.uid] == STOPPED:
                self._stopped.setdefault(holder.uid, now)

    def _judge_entries(self, group: SharedGroup, new: SharedGroupStatus) -> None:
        """The entries of a card are within its budget, and one of unknown memory is the only one."""
        for uuid in {held.uuid for holder in new.holders for held in holder.devices}:
            entries = [d.memory_mb for h in new.holders for d in h.devices if d.uuid == uuid]
            if sum(entries) > TOTAL_MB - group.spec.reserve_mb or (0 in entries and len(entries) > 1):
                self._world.report_problem(
                    f"{uuid} was given out beyond its budget: {new.holder_names} {entries}"
                )

    def _judge_memory(self, group: SharedGroup, holder: Holder, need: PlacedDevice) -> None:
        """A grant is judged by a sample from after the last release, and there was room by what that showed."""
        if not self._is_told(need.uuid):
            return  # then it is the only holder: `_judge_alone`
        if self._world.shown_at < self._released.get(group.key, 0.0):
            self._world.report_problem(f"{holder.label} is granted by a sample of before the last release")
        if self._is_short(group, need, group.status.holders):
            shown = [one for one in self._world.shown if one.uuid == need.uuid]
            holders = [(h.label, h.step, h.devices) for h in group.status.holders]
            self._world.report_problem(
                f"{holder.label} is granted {need.memory_mb} MiB of {need.uuid} beside {holders}: {shown}"
            )

    def _judge_alone(self, group: SharedGroup, member: Member) -> None:
        """One that has its cards alone has them alone."""
        cards = set(member.placement.uuids)
        beside = [holder for holder in group.status.holders if cards & set(holder.uuids)]
        objects = [member, *(other for holder in beside if (other := self._member(holder)) is not None)]
        alone = [one.label for one in objects if self._is_alone(one, group)]
        if beside and alone:
            self._world.report_problem(
                f"{member.label} is granted beside {[h.label for h in beside]}, and {alone} are to be alone"
            )

    def _judge_kept_room(self, group: SharedGroup, holder: Holder, member: Member) -> None:
        """Room that is made for one is not granted to another that is behind it."""
        waiter = self._waiter(group)
        if waiter is None:
            return
        if waiter.uid == member.uid:
            del self._promised[group.key]
            return
        needs = waiter.placement.devices
        told = all(self._is_told(need.uuid) for need in needs) and not self._is_held_elsewhere(waiter, group)
        if _precedes(member, waiter) or not told:
            return
        staying = [one for one in group.status.holders if one.step == GRANTED]
        if any(self._is_short(group, need, staying) for need in needs) or (
            staying and self._is_alone(waiter, group)
        ):
            return  # another one that was before it has the room by now
        shares = bool(set(holder.uuids) & {need.uuid for need in needs})
        beside = (self._is_alone(waiter, group) or self._is_alone(member, group)) and shares
        if beside or any(self._is_short(group, need, [*staying, holder]) for need in needs):
            self._world.report_problem(
                f"{member.label} is granted the room that is made for {waiter.label}, which is before it"
            )

    def preempted(self, group: SharedGroup, holder: Holder, waiter: Member) -> None:
        """Judge that a holder is made to leave for another."""
        world, other = self._world, self._member(holder)
        self._promised[group.key] = waiter.uid
        if other is None or other.model is None or not any(world.traffic.get(holder.model, (0, 0))):
            return
        ready = world.ready_since.get(holder.model)
        if other.priority > waiter.priority and ready is not None:
            world.report_problem(f"{holder.label} is in use, and leaves for {waiter.label} of lower priority")
        if other.priority == waiter.priority and ready is not None:
            stayed = world.now - ready
            waited = world.now - self._queued.get((waiter.uid, group.key), world.now)
            if stayed < group.spec.stay_seconds - _ROUNDING and waited < group.spec.wait_seconds - _ROUNDING:
                world.report_problem(
                    f"{holder.label} is in use, and leaves after {stayed:.1f} s for {waiter.label}, which waits for {waited:.1f} s"
                )

    # --- waits

    def look(self) -> None:
        """Judge who is queued: the first waits no longer than maxWait for one that may be made to leave."""
        now, queued = self._world.now, dict[tuple[str, str], float]()
        for lease in self._world.state.leases.values():
            key = (lease.uid, f"default/{object_name(lease.spec.group)}")
            queued[key] = self._queued.get(key, now)
        for model in self._world.state.models.values():
            granted = model.condition(conditions.GRANTED)
            group = self._world.state.group("default", model.spec.group) if model.spec.group else None
            if group is None or granted is None or granted.reason != Reason.QUEUED:
                continue
            key = (model.uid, group.key)
            queued[key] = self._queued.get(key, now)
            late = now - queued[key] > group.spec.wait_seconds and self._is_due(model, group)
            since = self._overdue.setdefault(model.uid, now) if late else now
            if not late:
                self._overdue.pop(model.uid, None)
            if now - since > LATE_SECONDS:
                self._world.report_problem(
                    f"{model.metadata.name} is queued for {now - queued[key]:.1f} s, beyond maxWait, and {group.status.holder_names} stay"
                )
        self._queued = queued

    def _is_due(self, model: Model, group: SharedGroup) -> bool:
        """Tell whether the first of a queue waits for nothing but holders that may be made to leave."""
        world, membership, placement = self._world, model.status.shared_group, model.status.placement
        waits = any(world.traffic.get(model.metadata.name, (0, 0))) or not model.spec.serverless.enabled
        first = membership is not None and membership.group == group.name and membership.position == 1
        if placement is None or not waits or not first or world.shown_at < self._released.get(group.key, 0.0):
            return False
        free = not any(
            not self._is_told(need.uuid) or self._is_short(group, need, []) for need in placement.devices
        )
        holders = group.status.holders
        return (
            free
            and not self._is_held_elsewhere(of_model(model), group)
            and bool(holders)
            and all(self._may_leave(h, of_model(model)) for h in holders)
        )

    def _may_leave(self, holder: Holder, waiter: Member) -> bool:
        other, ready = self._member(holder), self._world.ready_since.get(holder.model)
        return (
            holder.step == GRANTED
            and other is not None
            and not other.is_lease
            and other.priority <= waiter.priority
            and ready is not None
            and self._world.now - ready > LOAD_SECONDS
        )

    # --- what is so

    def _member(self, holder: Holder) -> Member | None:
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

    def _waiter(self, group: SharedGroup) -> Member | None:
        """Return the Model for which a holder of a group had to leave, while it wants the room."""
        uid = self._promised.get(group.key)
        model = next((m for m in self._world.state.models.values() if m.uid == uid), None)
        wanted = model is not None and model.is_true(conditions.WANTED) and model.spec.group == group.name
        waits = model is not None and any(self._world.traffic.get(model.metadata.name, (0, 0)))
        if model is None or not wanted or not waits or group.holder(model.uid) is not None:
            self._promised.pop(group.key, None)
            return None
        return of_model(model)

    def _is_alone(self, member: Member, group: SharedGroup) -> bool:
        unknown = any(not need.memory_mb for need in member.placement.devices)
        return bool(group.spec.mode == ONE_AT_A_TIME or member.exclusive or unknown)

    def _is_held_elsewhere(self, member: Member, group: SharedGroup) -> bool:
        """Tell whether another group holds a card of a member."""
        others = (other for other in self._world.state.groups.values() if other.key != group.key)
        held = {uuid for other in others for holder in other.status.holders for uuid in holder.uuids}
        return bool(held & set(member.placement.uuids))

    def _is_told(self, uuid: str) -> bool:
        """Tell whether the last sample says which processes use a card."""
        world = self._world
        return world.now - world.shown_at <= RECENT_SECONDS and uuid in world.listed

    def _is_short(self, group: SharedGroup, need: PlacedDevice, holders: Iterable[Holder]) -> bool:
        """Tell whether a card lacks room beside holders: each counts with its entry, or with more that it was seen to use."""
        shown = [one for one in self._world.shown if one.uuid == need.uuid]
        on_it = [holder for holder in group.status.holders if need.uuid in holder.uuids]
        own = {holder.uid: [one for one in shown if self._is_of(holder, one)] for holder in on_it}
        known = [one for processes in own.values() for one in processes]
        total = need.memory_mb + sum(one.mb for one in shown if one not in known)
        for holder in holders:
            entry = sum(held.memory_mb for held in holder.devices if held.uuid == need.uuid)
            total += max(entry, sum(one.mb for one in own.get(holder.uid, ())))
        return total > TOTAL_MB - group.spec.reserve_mb

    def _is_of(self, holder: Holder, process: Shown) -> bool:
        """Tell whether a process is of a holder: what begins outside of Pods after the grant of a lease is the lease's."""
        game = bool(holder.lease) and not process.owner
        return process.owner == (holder.model or holder.lease) or (
            game and process.began >= self._granted.get(holder.uid, 0.0)
        )


def _precedes(member: Member, waiter: Member) -> bool:
    """Tell whether a member is before another in the queue, or may have been when it was granted."""
    if member.priority != waiter.priority:
        return member.priority > waiter.priority
    return member.is_lease or 0 < _position(member) < _position(waiter)


def _position(member: Member) -> int:
    membership = member.model.status.shared_group if member.model is not None else None
    return membership.position if membership is not None else 0
