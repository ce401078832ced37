"""The arbiter's effects: the steps of a group's Lease, each after reading anew what it was decided from.

Always by PUT with the resourceVersion just read: a paused arbiter that wakes writes nothing.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model, Placement
from flexinfer.arbiter.decide import Advance, Grant
from flexinfer.arbiter.group import may_hold
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import FREED, GRANTED, STOPPED, GroupLease, group_lease, lease_of
from flexinfer.runtime.kubernetes.api import LEASES, MODELS, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import model_deleted


async def perform(runtime: Runtime, action: Grant | Advance) -> Sequence[AnyEvent]:
    """Carry out one step of a Lease."""
    if isinstance(action, Grant):
        return await _grant(runtime, action)
    return await _advance(runtime, action)


async def _grant(runtime: Runtime, action: Grant) -> Sequence[AnyEvent]:
    """Give the device to a Model that still wants it, if nobody holds it."""
    model = await _model(runtime, action.lease.namespace, action.model.metadata.name)
    if model is None or model.uid != action.model.uid:
        return [model_deleted(action.model)]
    known = await _read(runtime, action.lease)
    news: list[AnyEvent] = [events.ModelObserved(model=model)]
    if known is not None and known.step != FREED:
        return [*news, events.LeaseObserved(lease=known)]
    if not may_hold(model) or model.spec.group != action.lease.group:
        return news
    former = known or GroupLease(namespace=action.lease.namespace, group=action.lease.group)
    home = model.status.placement or Placement()
    turn = msgspec.structs.replace(
        former,
        holder=model.metadata.name,
        holder_uid=model.uid,
        step=GRANTED,
        turn=former.turn + 1,
        reason="",
        since=_stamp(runtime),
        node=home.node,
        devices=home.devices,
    )
    return [*news, events.LeaseObserved(lease=await _write(runtime, turn, new=known is None))]


async def _advance(runtime: Runtime, action: Advance) -> Sequence[AnyEvent]:
    """Move the Lease on, if it and its holder are still what the step was decided from."""
    known = await _read(runtime, action.lease)
    if known is None:
        return []
    if (known.turn, known.step) != (action.lease.turn, action.lease.step):
        return [events.LeaseObserved(lease=known)]
    holder = await _model(runtime, known.namespace, known.holder)
    if holder is not None and holder.uid != known.holder_uid:
        holder = None
    news: list[AnyEvent] = [events.ModelObserved(model=holder)] if holder is not None else []
    if action.step != FREED and (holder is None) != (action.holder is None):
        return [*news, *([model_deleted(action.holder)] if action.holder is not None else [])]
    if action.step == STOPPED and holder is not None and not _same_report(holder, action.holder):
        return news
    moved = msgspec.structs.replace(known, step=action.step, reason=action.reason)
    return [*news, events.LeaseObserved(lease=await _write(runtime, moved, new=False))]


def _same_report(fresh: Model, decided: Model | None) -> bool:
    """Tell whether the launcher's word is still the one that the step was decided from."""
    if decided is None:
        return False
    now, then = fresh.condition(conditions.READY), decided.condition(conditions.READY)
    turns = [m.status.backend.turn if m.status.backend else 0 for m in (fresh, decided)]
    return (
        now is not None
        and then is not None
        and (now.status, now.reason) == (then.status, then.reason)
        and turns[0] == turns[1]
    )


async def _model(runtime: Runtime, namespace: str, name: str) -> Model | None:
    try:
        return await runtime.cluster.get(MODELS, namespace, name)
    except NotFoundError:
        return None


async def _read(runtime: Runtime, lease: GroupLease) -> GroupLease | None:
    try:
        return group_lease(await runtime.cluster.get(LEASES, lease.namespace, lease.name))
    except NotFoundError:
        return None


async def _write(runtime: Runtime, turn: GroupLease, *, new: bool) -> GroupLease:
    body = lease_of(turn)
    if new:
        written = await runtime.cluster.create(LEASES, turn.namespace, body)
    else:
        written = await runtime.cluster.replace(LEASES, turn.namespace, turn.name, body)
    return group_lease(written) or turn


def _stamp(runtime: Runtime) -> str:
    return runtime.utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
