"""The laws of a card: each grant and each preemption is judged by what is so (`facts`), not by what the arbiter computes."""

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.placement import PlacedDevice
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import (
    GRANTED,
    STOPPED,
    Holder,
    SharedGroup,
    SharedGroupStatus,
    object_name,
)
from flexinfer.arbiter.member import Member, of_model
from tests.simulation.cards.facts import Facts, precedes
from tests.simulation.cards.world import LOAD_SECONDS, TOTAL_MB, World

_ROUNDING, LATE_SECONDS = 0.001, 3.0
"""How long a decision that is due may take: it is carried out later, and looked at with the next heartbeat."""


class Laws:
    """Reports to the world what breaks a law."""

    def __init__(self, world: World) -> None:
        self._world, self._facts = world, Facts(world)
        self._turns: dict[str, int] = {}
        self._stopped: dict[str, float] = {}  # uid -> when its engine had stopped
        self._released: dict[
            str, float
        ] = {}  # group -> when the last of those that are off its list had stopped
        self._promised: dict[str, str] = {}  # group -> uid of the one for which a holder had to leave
        self._queued: dict[tuple[str, str], float] = {}  # uid, group -> since when
        self._overdue: dict[str, float] = {}  # uid -> since when nothing but the arbiter keeps it waiting
        self._unverified: dict[str, float] = {}  # uid -> the same of an initial start

    def forget(self) -> None:
        """Let another arbiter begin: it does not know since when one is queued, and only what comes later tells what was released."""
        self._queued.clear()
        self._overdue.clear()
        self._unverified.clear()
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
        self._facts.sampled[holder.uid] = self._world.shown_at

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
        if not self._facts.end_is_recorded(need.uuid):
            return  # then it is the only holder: `_judge_alone`
        if self._world.shown_at < self._released.get(group.key, 0.0):
            self._world.report_problem(f"{holder.label} is granted by a sample of before the last release")
        if self._facts.is_short(group, need, group.status.holders):
            shown = [one for one in self._world.shown if one.uuid == need.uuid]
            holders = [(h.label, h.step, h.devices) for h in group.status.holders]
            self._world.report_problem(
                f"{holder.label} is granted {need.memory_mb} MiB of {need.uuid} beside {holders}: {shown}"
            )

    def _judge_alone(self, group: SharedGroup, member: Member) -> None:
        """One that has its cards alone has them alone."""
        cards = set(member.placement.uuids)
        beside = [holder for holder in group.status.holders if cards & set(holder.uuids)]
        objects = [member, *(other for holder in beside if (other := self._facts.member(holder)) is not None)]
        alone = [one.label for one in objects if self._facts.is_alone(one, group)]
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
        told = all(self._facts.end_is_recorded(need.uuid) for need in waiter.placement.devices)
        if precedes(member, waiter) or not told or self._facts.is_held_elsewhere(waiter, group):
            return
        staying = [one for one in group.status.holders if one.step == GRANTED]
        before = self._facts.claims_before(waiter, member, group, staying)
        if not self._facts.has_room(waiter, group, staying, before):
            return  # another one that is before it has the room, or will have it
        if not self._facts.has_room(waiter, group, [*staying, holder], before):
            self._world.report_problem(
                f"{member.label} is granted the room that is made for {waiter.label}, which is before it"
            )

    def _waiter(self, group: SharedGroup) -> Member | None:
        """Return the one for which a holder of a group had to leave, while it wants the room."""
        uid = self._promised.get(group.key)
        waiter = next((one for one in self._facts.waiting(group) if one.uid == uid), None)
        if waiter is None:
            self._promised.pop(group.key, None)
        return waiter

    def preempted(self, group: SharedGroup, holder: Holder, waiter: Member) -> None:
        """Judge that a holder is made to leave for another."""
        world, other = self._world, self._facts.member(holder)
        self._promised[group.key] = waiter.uid
        if self._facts.is_unrequested(waiter) and not self._facts.has_only_verified(holder):
            world.report_problem(
                f"{holder.label} leaves for {waiter.label}, which no request waits for, and was requested"
            )
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
            self._look_at_initial_start(model, group)
            if now - since > LATE_SECONDS:
                self._world.report_problem(
                    f"{model.metadata.name} is queued for {now - queued[key]:.1f} s, beyond maxWait, and {group.status.holder_names} stay"
                )
        self._queued = queued

    def _look_at_initial_start(self, model: Model, group: SharedGroup) -> None:
        """Judge one that is queued for its initial start: it waits for no holder that has made its own and was never requested."""
        now, facts = self._world.now, self._facts
        only = all(facts.has_only_verified(holder) for holder in group.status.holders)
        due = only and facts.is_unrequested(of_model(model)) and self._is_first_with_room(model, group)
        since = self._unverified.setdefault(model.uid, now) if due else self._unverified.pop(model.uid, now)
        if due and now - since > LATE_SECONDS:
            self._world.report_problem(
                f"{model.metadata.name} waits {now - since:.1f} s for its initial start, and {group.status.holder_names} stay"
            )

    def _is_due(self, model: Model, group: SharedGroup) -> bool:
        """Return whether the first of a queue waits for nothing but holders that may be made to leave."""
        waits = any(self._world.traffic.get(model.metadata.name, (0, 0))) or not model.spec.serverless.enabled
        leaves = all(self._may_leave(holder, of_model(model)) for holder in group.status.holders)
        return waits and leaves and self._is_first_with_room(model, group)

    def _is_first_with_room(self, model: Model, group: SharedGroup) -> bool:
        """Return whether the first of a queue has room as soon as the holders that there are have left."""
        world, membership, placement = self._world, model.status.shared_group, model.status.placement
        first = membership is not None and membership.group == group.name and membership.position == 1
        if placement is None or not first or world.shown_at < self._released.get(group.key, 0.0):
            return False
        free = not any(
            not self._facts.end_is_recorded(need.uuid) or self._facts.is_short(group, need, [])
            for need in placement.devices
        )
        held = self._facts.is_held_elsewhere(of_model(model), group)
        return free and not held and bool(group.status.holders)

    def _may_leave(self, holder: Holder, waiter: Member) -> bool:
        other, ready = self._facts.member(holder), self._world.ready_since.get(holder.model)
        return (
            holder.step == GRANTED
            and other is not None
            and not other.is_lease
            and other.priority <= waiter.priority
            and ready is not None
            and self._world.now - ready > LOAD_SECONDS
        )
