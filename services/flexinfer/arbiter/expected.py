"""When those that are queued get their turn, as far as that follows from what is known. Pure.

A holder leaves when the policy lets it (`policy.Leave.due`), a lease when it ends, each after the drain deadline if it has requests, and its memory is
back soon after. One behind another of the same priority waits until that one has loaded, as long as it took the last time, and has stayed minStay.
What does not follow is left out, never guessed: how long a higher priority stays in use, how long an engine loads that was never measured, when
memory comes back that is late already.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import GRANTED, RELEASING, Holder, SharedGroup
from flexinfer.arbiter.budget import room
from flexinfer.arbiter.group import Group
from flexinfer.arbiter.leases import end_of
from flexinfer.arbiter.member import Member, of_holder
from flexinfer.arbiter.preemption import leave, load_seconds
from flexinfer.arbiter.standing import is_loading, standing_of_member
from flexinfer.state.demand import demand_of
from flexinfer.state.observed import ObservedState

_RELEASE_SECONDS = 1.0
"""About what it takes from the end of the requests of a holder until its memory is seen back (`python -m benchmarks.swap`)."""
_MOST_EXPECTED = 16
"""Of so many of the queue it is computed: behind them it says nothing any more."""


class _Turn(msgspec.Struct, frozen=True, kw_only=True):
    """When a member gets its turn, in monotonic seconds, and who still holds devices then."""

    at: float
    staying: Sequence[Holder]


def expected_turns(
    group: Group, shared: SharedGroup, state: ObservedState, now: float, drain_seconds: float
) -> Mapping[str, float]:
    """Return when members of the queue are expected to be granted, by uid, in monotonic seconds; one of which that is not known is left out."""
    turns: dict[str, float] = {}
    before: tuple[Member, _Turn] | None = None
    for member in group.queue[:_MOST_EXPECTED]:
        if before is None:
            turn = _first(member, shared, state, now, drain_seconds)
        else:
            turn = _behind(member, *before, shared, state, now)
        if turn is None:
            break
        turns[member.uid], before = turn.at, (member, turn)
    return turns


def _first(
    member: Member, shared: SharedGroup, state: ObservedState, now: float, drain_seconds: float
) -> _Turn | None:
    """Return the turn of the first of the queue: once so many holders have left, those that leave first, that it fits."""
    ends = sorted(_ends(member, shared, state, now, drain_seconds), key=lambda end: end[0])
    staying, at = list(shared.status.holders), now
    for end, holder in ends:
        if room(member, shared, staying, state, now).fits:
            break
        staying.remove(holder)
        at = end
    return _Turn(at=at, staying=staying) if room(member, shared, staying, state, now).fits else None


def _ends(
    member: Member, shared: SharedGroup, state: ObservedState, now: float, drain_seconds: float
) -> Iterator[tuple[float, Holder]]:
    """Yield until when holders keep their memory, at the latest; those of which that is not known are left out."""
    for holder in shared.status.holders:
        leaves_at = _leaves_at(holder, member, shared, state, now)
        if leaves_at is None:
            continue
        drain = drain_seconds if _drains(holder, shared, state, now) else 0.0
        at = leaves_at + drain + _RELEASE_SECONDS
        if at > now:
            yield at, holder


def _drains(holder: Holder, shared: SharedGroup, state: ObservedState, now: float) -> bool:
    """Return whether requests of a holder are yet to end."""
    other = of_holder(holder, shared, state)
    model = other.model if other is not None and holder.step in (GRANTED, RELEASING) else None
    return model is not None and demand_of(model, state, now).busy


def _leaves_at(
    holder: Holder, member: Member, shared: SharedGroup, state: ObservedState, now: float
) -> float | None:
    """Return when a holder begins its step after this one; None if that is not known."""
    if holder.step != GRANTED:
        since = state.step_since.get((shared.key, holder.uid))
        return since.at if since is not None else None
    other = of_holder(holder, shared, state)
    if other is not None and isinstance(other.object, GPULease):
        end = end_of(other.object, state)
        return end.at if end is not None else None
    if other is None or other.model is None:
        return None
    answer = leave(holder, member, shared, state, now)
    if answer.allowed:
        return now
    if not standing_of_member(member, state, now).in_demand:
        return None  # that an initial start makes none leave which was requested, time alone does not alter
    if answer.due is None and is_loading(other.model) and other.priority <= member.priority:
        return _stayed_after_load(other.model, shared, state, now)
    return answer.due


def _stayed_after_load(model: Model, shared: SharedGroup, state: ObservedState, now: float) -> float | None:
    """Return when a holder that loads will have stayed minStay; None if it was never measured, or takes longer than it did."""
    since, seconds = state.step_since.get((shared.key, model.uid)), load_seconds(model)
    if since is None or not seconds or since.at + seconds <= now:
        return None
    return since.at + seconds + shared.spec.stay_seconds


def _behind(
    member: Member, other: Member, turn: _Turn, shared: SharedGroup, state: ObservedState, now: float
) -> _Turn | None:
    """Return the turn of one behind another: with it if both fit, else after it."""
    if room(member, shared, turn.staying, state, now, other.placement.devices).fits:
        return turn
    if not room(member, shared, turn.staying, state, now).fits or other.priority > member.priority:
        return None
    if isinstance(other.object, GPULease):
        return msgspec.structs.replace(turn, at=turn.at + other.object.spec.seconds + _RELEASE_SECONDS)
    seconds = load_seconds(other.object)  # of its last start
    stays = seconds + shared.spec.stay_seconds + _RELEASE_SECONDS
    return msgspec.structs.replace(turn, at=turn.at + stays) if seconds else None
