"""Which Models and GPULeases hold the devices of a shared group: the steps of each group's SharedGroup. Pure.

The steps of a turn, each a write of the SharedGroup's status with its resourceVersion:

    Granted               the next of the queue that fits beside the holders gets the next turn, if no other group holds its devices (`turns`)
    Granted -> Releasing  the holder must leave: not wanted, not in the group, without its node or its Pod, placed elsewhere, without a
                          placement or its weights before it has a Pod, or deleted; or it makes room for another (`preemption`)
    Releasing -> Stopped  the launcher wrote Ready=False/Stopped with this turn, or the holder was deleted; of a GPULease: its status says that it is over
    Stopped -> Freed      the device's memory is seen free (`memory_release`): the holder is taken off the list

Before the first of them the SharedGroup is created, and initialised: `initialize`.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from flexinfer.api import conditions, sharedgroup
from flexinfer.api.conditions import Condition
from flexinfer.api.group_reasons import GroupReason
from flexinfer.api.labels import HELD_FINALIZER
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import (
    BLOCKED,
    FREED,
    GRANTED,
    RELEASING,
    STOPPED,
    Holder,
    SharedGroup,
    highest_turn,
    object_name,
)
from flexinfer.arbiter import leases
from flexinfer.arbiter.budget import pods_of_others
from flexinfer.arbiter.effects import (
    Advance,
    Create,
    Effect,
    Grant,
    GrantLease,
    Initialize,
    Preempt,
    Protect,
    Rebind,
    Report,
    Unprotect,
)
from flexinfer.arbiter.expected import expected_turns
from flexinfer.arbiter.granted_condition import ExpectedTurns, granted_in_group, granted_without_group
from flexinfer.arbiter.group import (
    Group,
    group_of,
    has_opened,
    has_returned,
    holds_elsewhere,
    may_hold_lease,
    must_leave,
)
from flexinfer.arbiter.keys import group_in
from flexinfer.arbiter.member import Member
from flexinfer.arbiter.memory_release import Blocked, Freeing, freeing
from flexinfer.arbiter.overdue import overdue
from flexinfer.arbiter.turns import Turns, turns_of
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

GRACE_SECONDS = 30.0
"""terminationGracePeriodSeconds of every engine Pod."""
PATIENCE_SECONDS = 60.0
"""How long a release may take beyond draining and the grace period before the group counts as blocked."""
Action = Effect | WriteStatus | RequeueAt


def decide(
    state: ObservedState,
    key: str,
    now: float,
    *,
    drain_seconds: float = 30.0,
    memory_free_seconds: float = 5.0,
) -> Iterator[Action]:
    """Yield what a group, a SharedGroup of a wrong name, or a Model in no group needs next."""
    names = group_in(key)
    if names is None:
        yield from _object_or_model(state, key, now)
        return
    group = group_of(state, *names, now)
    if group.object is None or group.object.name != group.name:
        yield from _without_object(group, state)
    elif not group.object.initialized:
        yield from _uninitialized(group, group.object, state)
    else:
        yield from _initialized(group, group.object, state, now, drain_seconds, memory_free_seconds)
    if group.again is not None:
        yield RequeueAt(group.again)


def _object_or_model(state: ObservedState, key: str, now: float) -> Iterator[Action]:
    """Decide on a SharedGroup that does not count, and on a Model that is in no group."""
    model = state.models.get(key)
    if model is not None and not model.spec.group and not holds_elsewhere(model, "", state):
        yield from granted_without_group(model, state, now)
    group = state.groups.get(key.removeprefix("ignored/")) if key.startswith("ignored/") else None
    if group is None or group.counts:
        return
    yield from _unprotected(group)
    condition = wrong_name(group)
    if not conditions.same(group.condition(condition.type), condition):
        yield Report(group=group, condition=condition)


def _unprotected(group: SharedGroup) -> Iterator[Action]:
    """Let an object go that is being deleted; that others keep it is theirs."""
    if group.deleting and HELD_FINALIZER in group.metadata.finalizers:
        yield Unprotect(group=group)


def wrong_name(group: SharedGroup) -> Condition:
    """Return Accepted of a SharedGroup that does not have the name that is derived from its group."""
    message = f"ignored: the SharedGroup of group {group.name} has the name {object_name(group.name)}; delete this object"
    return actions.false(group, conditions.ACCEPTED, GroupReason.WRONG_NAME, message)


def _without_object(group: Group, state: ObservedState) -> Iterator[Action]:
    """Create the object of a group that a Model names, or that one still holds by its status."""
    if group.object is not None:
        conflict = (
            f"SharedGroup {group.object.metadata.name} belongs to group {group.object.name}; delete it: "
        )
        cause = f"{conflict}kubectl delete sharedgroup {group.object.metadata.name} -n {group.namespace}"
        yield from _granted(group, group.members, state, cause)
        yield from leases.without_object(group, group.object, cause)
        return
    needed = any(_needs_object(key, state) for key in state.members(group.namespace, group.name))
    if needed or any(may_hold_lease(lease) for lease in group.leases):
        yield Create(namespace=group.namespace, group=group.name)
    new_models = [model for model in group.members if model.condition(conditions.GRANTED) is None]
    yield from _granted(group, new_models, state, "")


def _needs_object(key: str, state: ObservedState) -> bool:
    """Return whether a Model needs its group's object: one that is being deleted only while it has Pods."""
    model = state.effective(key)
    return model is not None and (not model.deleting or bool(state.workload(model).pods))


def _uninitialized(group: Group, shared: SharedGroup, state: ObservedState) -> Iterator[Action]:
    """Initialise the object; what its members show stays as it is until then."""
    if shared.deleting:
        yield from _unprotected(shared)
        return
    keys = sorted(state.members(group.namespace, group.name))
    members = [model for key in keys if (model := state.models.get(key)) is not None]
    models = tuple(model for model in members if not holds_elsewhere(model, group.name, state))
    turns = [m.status.shared_group.turn for m in models if m.status.shared_group is not None]
    turns += [m.status.backend.turn for m in models if m.status.backend is not None]
    yield Initialize(group=shared, models=models, highest_turn=highest_turn(shared.metadata.version, *turns))


def _initialized(
    group: Group, shared: SharedGroup, state: ObservedState, now: float, drain_seconds: float, settle: float
) -> Iterator[Action]:
    deadline = drain_seconds + GRACE_SECONDS + PATIENCE_SECONDS
    blocker: Blocked | None = None
    turns = turns_of(group, shared, state, now)
    for holder in group.holders:
        since = state.step_since.get((shared.key, holder.uid))
        began = since.at if since is not None else now
        progress = _progress(group, holder, state, began, now, settle)
        yield from _rebind(group, shared, holder, state)
        yield from _advance(group, shared, holder, _due(group, shared, holder, state, now), progress, turns)
        if holder.step == GRANTED or progress.free:
            continue
        late = now >= began + (deadline if not holder.lease else 0.0)
        blocker = blocker or progress.blocked
        if late and blocker is None:
            blocker = overdue(group, holder, state, progress, deadline)
        times = (began + deadline, progress.again)
        yield from (RequeueAt(at) for at in times if at is not None and at > now)
    yield from leases.expiry_checks(group, shared, state, now)
    if turns.next is not None:
        yield _grant(shared, turns.next)
    elif shared.deleting and not group.holders:
        yield from _unprotected(shared)
    elif group.holders and not shared.deleting and HELD_FINALIZER not in shared.metadata.finalizers:
        yield Protect(group=shared)
    yield from (RequeueAt(at) for at in (turns.again,) if at is not None and at > now)
    yield from _report(shared, blocker)
    cause = blocker.message if blocker is not None else ""
    yield from leases.status_writes(group, shared, state, turns.waits, cause)
    expected_times = functools.cache(lambda: expected_turns(group, shared, state, now, drain_seconds))
    yield from _granted(group, group.members, state, cause, turns.waits, expected_times)


def _grant(shared: SharedGroup, member: Member) -> Grant | GrantLease:
    if isinstance(member.object, Model):
        return Grant(group=shared, model=member.object)
    return GrantLease(group=shared, lease=member.object)


def _progress(
    group: Group, holder: Holder, state: ObservedState, began: float, now: float, settle: float
) -> Freeing:
    """Return how far the memory of a holder is; nothing is known of it before it has stopped, and while a Pod of it is seen."""
    if holder.step != STOPPED or _has_open_pod(group, holder, state):
        return Freeing()
    return freeing(holder, began, state, now, settle, pods_of_others(holder.node, holder.uid, state))


def _granted(
    group: Group,
    members: Sequence[Model],
    state: ObservedState,
    cause: str,
    waits: Mapping[str, str] = MappingProxyType({}),
    expected_times: ExpectedTurns = dict,
) -> Iterator[WriteStatus]:
    """Yield Granted of members; of one that holds devices of another group, that group writes it."""
    for model in members:
        if not holds_elsewhere(model, group.name, state):
            yield from granted_in_group(group, model, cause, waits.get(model.uid, ""), expected_times)


def _due(
    group: Group, shared: SharedGroup, holder: Holder, state: ObservedState, now: float
) -> tuple[str, bool]:
    """Return why a holder must leave, empty if it need not, and whether it has stopped, as far as others than the device tell."""
    if holder.lease:
        lease = group.lease(holder)
        return leases.must_leave(lease, holder, shared, state, now), leases.end_is_recorded(lease, holder)
    model = group.model(holder)
    if model is None:
        return "its Model was deleted", True
    return must_leave(model, shared, holder.turn), has_returned(model, holder.turn)


def _advance(
    group: Group,
    shared: SharedGroup,
    holder: Holder,
    due: tuple[str, bool],
    progress: Freeing,
    turns: Turns,
) -> Iterator[Action]:
    """Yield the next step of a holder, if it is due."""
    leaver = turns.leaver(holder)
    step, reason = "", holder.reason
    match holder.step:
        case sharedgroup.GRANTED:
            reason = due[0]
            if not reason and leaver is not None and turns.makes_room_for is not None:
                waiter = turns.makes_room_for.object
                yield Preempt(group=shared, holder=holder, waiter=waiter, reason=leaver.why)
            step = RELEASING if reason else ""
        case sharedgroup.RELEASING:
            step = STOPPED if due[1] else ""
        case _:
            step = FREED if progress.free else ""
    if step:
        yield Advance(group=shared, holder=holder, step=step, model=group.model(holder), reason=reason)


def _rebind(group: Group, shared: SharedGroup, holder: Holder, state: ObservedState) -> Iterator[Action]:
    """Yield the devices that the engine of a turn has got, once the placement names them: the memory is looked for there."""
    model = group.model(holder)
    placement = model.status.placement if model is not None else None
    if model is None or placement is None or holder.step != GRANTED or holder.is_on(placement):
        return
    pods = [
        pod for pod in state.workload(model).pods if pod.turn == holder.turn and pod.devices and not pod.gated
    ]
    if pods and has_opened(model, holder):
        yield Rebind(group=shared, holder=holder, model=model, pod_uid=pods[-1].uid, uuids=placement.uuids)


def _has_open_pod(group: Group, holder: Holder, state: ObservedState) -> bool:
    """Return whether a Pod of the holder is still seen; none of a Model that was deleted, since its finalizer outlives them."""
    model = group.model(holder)
    return model is not None and any(not pod.gated for pod in state.workload(model).pods)


def _report(shared: SharedGroup, blocker: Blocked | None) -> Iterator[Action]:
    """Yield the condition Blocked, if it changes."""
    condition = actions.false(shared, BLOCKED, GroupReason.NOT_BLOCKED, "")
    if blocker is not None:
        condition = actions.true(shared, BLOCKED, blocker.reason, blocker.message)
    if not conditions.same(shared.condition(BLOCKED), condition):
        yield Report(group=shared, condition=condition)
