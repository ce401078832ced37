"""Who of a group's queue is granted next, who leaves for whom, and what each that is queued waits for. Pure.

The queue is looked at in its order. The first that fits beside the holders is next. For the first that is in demand, or makes its initial start,
and does not fit, holders may leave: the room that they make is kept for it, and what is left of that for those behind it that will fit beside it.
One behind them is granted only what fits beside them all.
"""

import math
from collections.abc import Iterator, Mapping

import msgspec

from flexinfer.api.labels import HELD_FINALIZER
from flexinfer.api.numbers import listed
from flexinfer.api.placement import PlacedDevice
from flexinfer.api.sharedgroup import GRANTED, Holder, SharedGroup
from flexinfer.arbiter.budget import alone, apart, recent, room
from flexinfer.arbiter.foreign_holders import withheld
from flexinfer.arbiter.group import Group
from flexinfer.arbiter.member import Member
from flexinfer.arbiter.preemption import Leave, Plan, plan
from flexinfer.arbiter.standing import standing_of_member
from flexinfer.arbiter.unseen import first_due
from flexinfer.state.observed import ObservedState


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """What is due in a group's queue.

    `next` is granted; `leavers` leave for `makes_room_for`; `waits` is what each member waits for, by uid; `again` is when time alone changes that.
    """

    next: Member | None = None
    makes_room_for: Member | None = None
    leavers: tuple[Leave, ...] = ()
    waits: Mapping[str, str] = {}
    again: float | None = None

    def leaver(self, holder: Holder) -> Leave | None:
        """Return why a holder leaves; None if it stays."""
        return next((leaver for leaver in self.leavers if leaver.holder.uid == holder.uid), None)


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The room that is kept for members, the first of which it is made for, and the holders that stay beside them."""

    members: tuple[Member, ...]
    staying: tuple[Holder, ...]

    @property
    def devices(self) -> Iterator[PlacedDevice]:
        """What they need."""
        return (device for member in self.members for device in member.placement.devices)

    @property
    def labels(self) -> str:
        """Who they are, for people."""
        return listed([member.label for member in self.members])


def turns_of(group: Group, shared: SharedGroup, state: ObservedState, now: float) -> Turns:
    """Return what is due in the queue of an initialised group."""
    if shared.deleting:
        return Turns(waits=dict.fromkeys((member.uid for member in group.queue), _deleting(shared)))
    foreign = withheld(group, state)
    kept_room: _Kept | None = None
    turns, waits, again = Turns(), dict(foreign), [*_silent_at(group, state, now)]
    for member in group.queue:
        if member.uid in foreign:
            continue
        fits, why = _fits(member, shared, kept_room, state, now)
        if fits:
            turns = msgspec.structs.replace(turns, next=member)
            break
        waits[member.uid] = why
        standing = standing_of_member(member, state, now)
        if not (standing.in_demand or standing.verifies):
            continue
        if kept_room is not None:
            kept_room = _kept_too(member, kept_room, shared, state, now)
            continue
        room_plan = plan(member, shared, state, now)
        waits[member.uid] = _explained(room_plan, shared) or why
        again += [room_plan.again] if room_plan.again is not None else []
        if room_plan.makes_room:
            kept_room = _kept(member, room_plan, shared)
            turns = msgspec.structs.replace(turns, makes_room_for=member, leavers=room_plan.leavers)
    return msgspec.structs.replace(turns, waits=waits, again=min(again, default=None))


def _deleting(shared: SharedGroup) -> str:
    """Return what the members of a group wait for whose SharedGroup is being deleted: nothing is granted by that one any more."""
    others = [name for name in shared.metadata.finalizers if name != HELD_FINALIZER]
    if shared.status.holders or not others:
        return "its SharedGroup is being deleted, and is created again once its holders have stopped"
    names = ", ".join(others)
    return f"its SharedGroup is being deleted, and is created again once the controllers of its finalizers have removed them: {names}"


def _silent_at(group: Group, state: ObservedState, now: float) -> Iterator[float]:
    """Yield when the telemetry that room for a group's queue is judged by becomes too old, or is late, unless more comes."""
    for node in {member.placement.node for member in group.queue}:
        sample = recent(node, state, now)
        if sample is not None:
            yield sample.stale_at
        elif now < (due := first_due(node, state)) < math.inf:
            yield due


def _fits(
    member: Member, shared: SharedGroup, kept_room: _Kept | None, state: ObservedState, now: float
) -> tuple[bool, str]:
    """Return whether a member fits beside all that are on the list now, and later beside those that room is kept for; else why not."""
    present = room(member, shared, shared.status.holders, state, now)
    if kept_room is None or not present.fits:
        return present.fits, present.why
    later, why = _fits_beside(member, kept_room, shared, state, now)
    return later, why and f"room is kept for {kept_room.labels}: {why}"


def _fits_beside(
    member: Member, kept_room: _Kept, shared: SharedGroup, state: ObservedState, now: float
) -> tuple[bool, str]:
    """Return whether a member will fit beside those that room is kept for, once all that leave have left; else why not."""
    first, *_ = kept_room.members  # the others are beside it, so that none of them is alone
    single = alone(first, shared, state, now)
    single = single or next((why for one in kept_room.members if (why := apart(member, one))), "")
    if single:
        return False, f"one holder at a time: {single}"
    later = room(member, shared, kept_room.staying, state, now, kept_room.devices)
    return later.fits, later.why


def _kept_too(
    member: Member, kept_room: _Kept, shared: SharedGroup, state: ObservedState, now: float
) -> _Kept:
    """Return the room that is kept, with that of another member if it will fit beside the others: then it waits for no more than they do."""
    fits, _ = _fits_beside(member, kept_room, shared, state, now)
    return msgspec.structs.replace(kept_room, members=(*kept_room.members, member)) if fits else kept_room


def _kept(member: Member, room_plan: Plan, shared: SharedGroup) -> _Kept:
    leaver_uids = {leaver.holder.uid for leaver in room_plan.leavers}
    holders = shared.status.holders
    staying = tuple(holder for holder in holders if holder.step == GRANTED and holder.uid not in leaver_uids)
    return _Kept(members=(member,), staying=staying)


def _explained(room_plan: Plan, shared: SharedGroup) -> str:
    """Return what a member waits for that room is made for, or why none is made."""
    if not room_plan.makes_room:
        return room_plan.why
    leavers = [leaver.holder.label for leaver in room_plan.leavers]
    leavers += [holder.label for holder in shared.status.holders if holder.step != GRANTED]
    clause = "has released its memory" if len(leavers) == 1 else "have released their memory"
    return f"until {listed(sorted(leavers))} {clause}" if leavers else ""
