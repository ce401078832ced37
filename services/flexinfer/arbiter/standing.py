"""How much a member of a group needs its devices now. Pure.

A Model is in demand while a request waits for it or is in flight, or was refused and not answered since, for as long as `idleTimeout`: its client
tries again. One that always runs is in demand always. Recent requests alone keep devices while no other Model is in demand.
"""

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.arbiter.member import Member
from flexinfer.state.demand import demand_of
from flexinfer.state.observed import ObservedState


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One member; times are monotonic seconds.

    `in_demand`: requests need its engine now (`requested`), or it always runs. `verifies`: it is in its initial start, which no request needs;
    `verified`: that is over, it is idle, and no request was ever observed. `idle_since` is from when its engine counts as idle, None while it does not. `ready_since` is when that became ready, None
    if it is not. `again` is when time alone may change any of this.
    """

    in_demand: bool
    requested: bool
    verifies: bool
    verified: bool
    idle_since: float | None
    ready_since: float | None
    again: float | None


def standing_of(model: Model, state: ObservedState, now: float) -> Standing:
    """Return how much a Model needs the devices."""
    demand, always = demand_of(model, state, now), not model.spec.serverless.enabled
    until = _in_demand_until(model, demand.last_request, state)
    has_request = demand.busy or (until is not None and now < until)
    in_demand = always or has_request
    ready_since = _ready_since(model, state)
    idle = ready_since is not None and not in_demand
    wanted = model.condition(conditions.WANTED)
    times = (demand.busy_until, demand.recheck_at, demand.late_at if idle else None, until)
    return Standing(
        in_demand=in_demand,
        requested=has_request,
        verifies=not in_demand and wanted is not None and wanted.reason == Reason.FIRST_START,
        verified=idle
        and demand.idle_since is not None
        and not _was_requested(model, demand.last_request, state),
        idle_since=demand.idle_since if idle else None,
        ready_since=ready_since,
        again=min((at for at in times if at is not None and at > now), default=None),
    )


_OF_A_LEASE = Standing(
    in_demand=True,
    requested=True,
    verifies=False,
    verified=False,
    idle_since=None,
    ready_since=None,
    again=None,
)
"""A person waits for a lease, or uses it, until it ends."""


def standing_of_member(member: Member, state: ObservedState, now: float) -> Standing:
    """Return how much a Model or a lease needs the devices."""
    return standing_of(member.model, state, now) if member.model is not None else _OF_A_LEASE


def may_wait(model: Model, standing: Standing) -> bool:
    """Return whether a Model that may hold the devices is queued: not one that had to leave, before it is in demand again.

    An initial start that had to leave is still to be made.
    """
    granted = model.condition(conditions.GRANTED)
    preempted = granted is not None and not granted.true and granted.reason == Reason.PREEMPTED
    return standing.in_demand or standing.verifies or not preempted


def is_loading(model: Model) -> bool:
    """Return whether a Model's engine is being started."""
    ready = model.condition(conditions.READY)
    return ready is not None and not ready.true and ready.reason in reasons.LOADING


def _was_requested(model: Model, last_request: float | None, state: ObservedState) -> bool:
    """Return whether a request for a Model was ever observed, also by a process that has ended: a proxy without one reports when it started."""
    observed = last_request is not None and last_request > state.first_seen.get(model.uid, 0.0)
    last_active, created_at = model.status.last_active_time or "", model.metadata.creation_timestamp or ""
    return observed or last_active > created_at


def _ready_since(model: Model, state: ObservedState) -> float | None:
    """Return when the engine became ready, as it was observed here; None if it is not."""
    ready = model.condition(conditions.READY)
    if ready is None or not ready.true:
        return None
    return state.changed(model, conditions.READY) or 0.0


def _in_demand_until(model: Model, last_request: float | None, state: ObservedState) -> float | None:
    """Return until when a request counts that no engine has answered; None if there is none."""
    ready, wanted = model.condition(conditions.READY), model.condition(conditions.WANTED)
    if ready is not None and ready.true:
        return None
    unanswered_since = state.changed(model, conditions.READY) or 0.0
    has_request = wanted is not None and wanted.true and wanted.reason == Reason.REQUESTED
    times = [last_request, state.changed(model, conditions.WANTED) if has_request else None]
    last = max((at for at in times if at is not None and at > unanswered_since), default=None)
    if last is None:
        return None
    return last + model.spec.serverless.idle_seconds
