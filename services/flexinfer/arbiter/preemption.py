"""Which holders leave for a member that is queued: the cheapest set that makes room for it. Pure.

A holder may be made to leave for a member that is in demand

    at once                     if its priority is lower (its requests in flight are drained), if it is in its initial start, or if it is idle
    once the Model was away     if it is idle, but has itself come back soon after it had to leave: for minStay at most, and less if it was away for
                                longer than that: else two Models that are in demand by turns would do nothing but load
    once it has stayed minStay, or the Model has waited maxWait   if it is in use at the same priority; for a Model that always runs,
                                and that no request waits for, only the latter; the latter not before it has stayed as long as it took to load
    once it was rejected        for minStay, and for 30 s at least, if the API server rejects its Pod, at the same priority

and never while it is in use at a higher priority, or loading at the same; a GPULease never before it ends. For an initial start, which no request
needs, a holder leaves only if it has made its own and was never requested: so each new Model is verified, and none that is used has to leave. Of the sets that make room the one is chosen with the fewest by
priority, then whose members are idle longest, then which load again fastest.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from flexinfer.api import conditions
from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, Holder, SharedGroup, SharedGroupSpec
from flexinfer.arbiter.budget import room
from flexinfer.arbiter.member import Member, of_holder
from flexinfer.arbiter.standing import Standing, is_loading, standing_of, standing_of_member
from flexinfer.state.observed import ObservedState

_MOST_COMPARED = 12
"""Up to so many holders every set of them is compared (4,096); beyond, they are taken in their order until there is room."""
_REJECTED_SECONDS = 30.0
"""How long a holder whose Pod is rejected stays at least: as long as a start without progress keeps initial starts waiting."""
Cost: TypeAlias = tuple[tuple[int, ...], tuple[float, ...], float, tuple[str, ...]]


class Leave(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a holder may be made to leave for a member, why or why not, and at what cost.

    `again` is when time alone may change any of it, `due` from when it may be made to leave whatever it serves; None if no time says so.
    """

    holder: Holder
    allowed: bool
    why: str
    again: float | None = None
    due: float | None = None
    cost: Cost = ((), (), 0.0, ())


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What makes room for a member: the holders that leave for it, and why no more can be done now; `again` is when to look again.

    `makes_room`: with these, and those that are leaving, gone it fits.
    """

    makes_room: bool
    leavers: tuple[Leave, ...] = ()
    why: str = ""
    again: float | None = None


def plan(member: Member, group: SharedGroup, state: ObservedState, now: float) -> Plan:
    """Return what makes room for a member that is in demand, or makes its initial start, and does not fit now."""
    staying = [holder for holder in group.status.holders if holder.step == GRANTED]
    without = room(member, group, staying, state, now)
    if without.fits or not without.sampled:
        return Plan(makes_room=without.fits)
    leaves = [leave(holder, member, group, state, now) for holder in staying]
    again = min((one.again for one in leaves if one.again is not None), default=None)
    leavers = _cheapest(member, group, leaves, state, now)
    if leavers is not None:
        return Plan(makes_room=True, leavers=tuple(leavers), again=again)
    refusals = [one for one in leaves if not one.allowed]
    causes = [without.why, *(f"{v.holder.label} stays: {v.why}" for v in refusals)]
    return Plan(makes_room=False, why="; ".join(causes), again=again)


def leave(holder: Holder, member: Member, group: SharedGroup, state: ObservedState, now: float) -> Leave:
    """Return whether a holder may be made to leave for a member that is in demand, or makes its initial start."""
    other = of_holder(holder, group, state)
    current = other.model if other is not None else None
    if other is None or current is None:
        return Leave(holder=holder, allowed=False, why=_until(other))
    standing = standing_of(current, state, now)
    cost, again = _cost(current, other.priority, standing, now), standing.again
    if not standing_of_member(member, state, now).in_demand:
        return _for_an_initial_start(holder, standing, cost)
    mine, its = member.priority, other.priority
    if its < mine:
        why = f"priority {mine} of {member.label} is above its {its}"
        return Leave(holder=holder, allowed=True, why=why, again=again, cost=cost)
    if standing.verifies and is_loading(current):
        return Leave(holder=holder, allowed=True, why="it is in its initial start", again=again, cost=cost)
    if standing.ready_since is None:
        loading = Leave(holder=holder, allowed=False, why="it is loading", again=again, cost=cost)
        return _if_rejected(loading, current, group.spec, state, now) if its == mine else loading
    idle = standing.idle_since is not None
    due = max(_waited_at(member, group.spec, state, now), standing.ready_since + load_seconds(current))
    if idle or standing_of_member(member, state, now).requested:
        due = min(due, _stayed_at(standing.ready_since, group.spec))
    due = min(due, _may_return_at(holder, member, group.spec, state)) if idle else due
    if idle and now >= due:
        return Leave(holder=holder, allowed=True, why="it is idle", again=again, cost=cost)
    if its > mine and not idle:
        why = f"it is in use at priority {its}, above {mine}"
        return Leave(holder=holder, allowed=False, why=why, again=again)
    if now >= due:
        why = _overdue(standing.ready_since, member, group.spec, now)
        return Leave(holder=holder, allowed=True, why=why, again=again, cost=cost)
    why = _stays(holder, member, its, group.spec, idle=idle)
    times = [at for at in (due, again) if at is not None]
    return Leave(holder=holder, allowed=False, why=why, again=min(times), due=due)


def _if_rejected(
    loading: Leave, model: Model, spec: SharedGroupSpec, state: ObservedState, now: float
) -> Leave:
    """Return whether a holder of the same priority may be made to leave that has no engine, since the API server rejects its Pod: after a while.

    One that always runs is tried again without end. Where the Pods of several are rejected, they take turns no faster than that.
    """
    ready = model.condition(conditions.READY)
    if ready is None or ready.reason != Reason.CREATE_REFUSED:
        return loading
    due = (state.changed(model, conditions.READY) or 0.0) + max(spec.stay_seconds, _REJECTED_SECONDS)
    if now < due:
        again = min(at for at in (loading.again, due) if at is not None)
        return msgspec.structs.replace(loading, why="its Pod is rejected, and tried again", again=again)
    return msgspec.structs.replace(loading, allowed=True, why="its Pod is rejected")


def _stays(holder: Holder, member: Member, priority: int, spec: SharedGroupSpec, *, idle: bool) -> str:
    """Return why a holder of the same priority, or one that has just come back, stays a while."""
    if idle:
        absence = f"{_least_absence(holder, spec):.0f}s (minStay: {spec.min_stay})"
        return f"it came back after {holder.away_seconds}s, so it stays until {member.label} has been away for {absence}"
    return f"it is in use at the same priority {priority}, for {spec.min_stay} (minStay) from when it became ready"


def _for_an_initial_start(holder: Holder, standing: Standing, cost: Cost) -> Leave:
    """Return whether a holder may be made to leave for a member that no request waits for."""
    why = "an initial start makes none leave that is loading, in use, or was requested"
    if standing.verified:
        why = "it has made its initial start, and was never requested"
    return Leave(holder=holder, allowed=standing.verified, why=why, again=standing.again, cost=cost)


def _until(other: Member | None) -> str:
    """Return until when a holder stays that is not a Model any more, or is a lease: that is never made to leave."""
    if other is None:
        return "it was deleted and is about to stop"
    expires_at = other.object.status.expires_at if isinstance(other.object, GPULease) else ""
    return f"a lease is not made to leave; it has the GPUs until {expires_at or 'it ends'}"


def _stayed_at(ready_since: float, spec: SharedGroupSpec) -> float:
    """Return when a holder has stayed long enough for a request of no higher priority."""
    return ready_since + spec.stay_seconds


def _may_return_at(holder: Holder, member: Member, spec: SharedGroupSpec, state: ObservedState) -> float:
    """Return from when an idle holder leaves for a member: at once unless that has left too, and the holder came back soon after it had."""
    left_at = _left_at(member, state)
    return left_at + _least_absence(holder, spec) if left_at is not None else -math.inf


def _least_absence(holder: Holder, spec: SharedGroupSpec) -> float:
    """Return for how many seconds a Model that had to leave is away before an idle holder leaves for it.

    Two absences that follow each other come to twice minStay, or the later to minStay: so of Models that take turns each swap takes minStay on
    average, and one that comes back for the first time, or after long, does not wait.
    """
    if holder.away_seconds is None:
        return 0.0
    return min(spec.stay_seconds, max(0.0, 2 * spec.stay_seconds - holder.away_seconds))


def away_seconds(member: Member, state: ObservedState, now: float) -> int | None:
    """Return for how many whole seconds a member has been away that had to leave, by what was observed; None for any other."""
    left_at = _left_at(member, state)
    return max(0, int(now - left_at)) if left_at is not None else None


def _left_at(member: Member, state: ObservedState) -> float | None:
    """Return when the engine of a member stopped; None for one that was never started, or failed, and for a lease."""
    if member.model is None:
        return None
    ready, stopped_at = (
        member.model.condition(conditions.READY),
        state.changed(member.model, conditions.READY),
    )
    return stopped_at if ready is not None and ready.reason == Reason.STOPPED else None


def _waited_at(member: Member, spec: SharedGroupSpec, state: ObservedState, now: float) -> float:
    """Return when a member has waited long enough; one that always runs, without a request, waits as long for a holder in use.

    A holder stays for as long as it took to load also then: of several Models that have waited so long each would make the one before it leave
    as soon as that is ready, and all of them would wait for loads alone.
    """
    return _queued_since(member, state, now) + spec.wait_seconds


def _queued_since(member: Member, state: ObservedState, now: float) -> float:
    """Return since when a member is in the queue of its group, as it was observed here; one that has just come from another group waits from now on."""
    model = member.model
    if model is None:
        return state.first_seen.get(member.uid, now)
    granted, since = model.condition(conditions.GRANTED), state.changed(model, conditions.GRANTED)
    membership = model.status.shared_group
    here = membership is None or membership.group == model.spec.group
    queued = here and granted is not None and granted.reason == Reason.QUEUED
    return since if queued and since is not None else now


def _overdue(ready_since: float, member: Member, spec: SharedGroupSpec, now: float) -> str:
    if now >= _stayed_at(ready_since, spec):
        return f"it has stayed minStay ({spec.min_stay})"
    return f"{member.label} has waited maxWait ({spec.max_wait})"


def _cost(model: Model, priority: int, standing: Standing, now: float) -> Cost:
    idle = now - standing.idle_since if standing.idle_since is not None else 0.0
    return ((priority,), (-idle,), load_seconds(model), (model.metadata.name,))


def load_seconds(model: Model) -> float:
    """Return how long the last start of a Model's engine took; 0 if that is not known."""
    backend = model.status.backend
    return backend.load_seconds if backend is not None else 0.0


def _total(leavers: Sequence[Leave]) -> Cost:
    """Return the cost of a set: its priorities, the highest first; the idle times, the shortest first; seconds to load again; names."""
    priorities = sorted((p for leaver in leavers for p in leaver.cost[0]), reverse=True)
    idle = sorted((i for leaver in leavers for i in leaver.cost[1]), reverse=True)
    names = sorted(name for leaver in leavers for name in leaver.cost[3])
    return (tuple(priorities), tuple(idle), sum(leaver.cost[2] for leaver in leavers), tuple(names))


def _cheapest(
    member: Member, group: SharedGroup, leaves: Sequence[Leave], state: ObservedState, now: float
) -> Sequence[Leave] | None:
    """Return the cheapest set of holders without which a member fits; None if there is none."""
    candidates = [one for one in leaves if one.allowed]
    holders = [one.holder for one in leaves]

    def fits(leavers: Sequence[Leave]) -> bool:
        leaver_uids = {leaver.holder.uid for leaver in leavers}
        return room(
            member, group, [holder for holder in holders if holder.uid not in leaver_uids], state, now
        ).fits

    if not fits(candidates):
        return None
    if len(candidates) > _MOST_COMPARED:
        return _first_that_fit(candidates, fits)
    return next(one for one in sorted(_sets(candidates), key=_total) if fits(one))


def _sets(candidates: Sequence[Leave]) -> Iterator[tuple[Leave, ...]]:
    for size in range(1, len(candidates) + 1):
        yield from itertools.combinations(candidates, size)


def _first_that_fit(candidates: Sequence[Leave], fits: Callable[[Sequence[Leave]], bool]) -> Sequence[Leave]:
    """Return holders in the order of their cost until there is room, without those that turn out not to be needed."""
    by_cost, selection = sorted(candidates, key=lambda one: _total([one])), list[Leave]()
    for one in by_cost:
        selection.append(one)
        if fits(selection):
            break
    for one in reversed(selection[:-1]):
        fewer = [other for other in selection if other is not one]
        selection = fewer if fits(fewer) else selection
    return selection
