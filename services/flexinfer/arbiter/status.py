"""The status of a SharedGroup as it will be after a step. Pure: `perform` writes it."""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions, kube
from flexinfer.api.conditions import Condition
from flexinfer.api.group_reasons import GroupReason
from flexinfer.api.labels import DEVICES_ANNOTATION
from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.numbers import counted
from flexinfer.api.placement import Placement
from flexinfer.api.sharedgroup import (
    BLOCKED,
    FREED,
    GRANTED,
    INITIALIZED,
    RELEASING,
    GroupDevice,
    HeldDevice,
    Holder,
    SharedGroup,
    SharedGroupStatus,
    highest_turn,
    is_turn,
)
from flexinfer.arbiter.budget import budget_mb
from flexinfer.arbiter.member import Member, label_of
from flexinfer.arbiter.memory_release import Seen, held_devices, rebound_devices
from flexinfer.events.workload import model_uid, pod_facts
from flexinfer.state import actions
from flexinfer.state.observed import Sample


def granted(
    group: SharedGroup,
    member: Member,
    snapshot: Seen,
    stamp: str,
    *,
    shared: bool,
    away_seconds: int | None = None,
) -> SharedGroupStatus:
    """Return the status in which a member holds the devices that it is placed on, with the next turn.

    `shared`: others may hold them too; `away_seconds` is for how long it has been away, None if it had not left.
    """
    placement, status, name = member.placement, group.status, member.object.metadata.name
    made_room = status.room_for == member.uid
    holder = Holder(
        model="" if member.is_lease else name,
        lease=name if member.is_lease else "",
        uid=member.uid,
        turn=highest_turn(group.metadata.version, status.turn, *_turns_of(member.object)) + 1,
        step=GRANTED,
        node=placement.node,
        devices=held_devices(placement.devices, snapshot),
        since=stamp,
        made_room=made_room,
        away_seconds=away_seconds if made_room else None,
    )
    if member.is_lease and member.exclusive:
        holder = msgspec.structs.replace(holder, devices=_whole(group, holder.devices, snapshot))
    devices = _group_devices(group, placement, snapshot.sample, shared=shared)
    room_for = "" if made_room else status.room_for
    next_status = msgspec.structs.replace(
        status, turn=holder.turn, node=placement.node, devices=devices, room_for=room_for
    )
    return _counted(group, next_status, (*status.holders, holder))


def _whole(group: SharedGroup, devices: tuple[HeldDevice, ...], snapshot: Seen) -> tuple[HeldDevice, ...]:
    """Return devices with all the memory that is left of each, as far as telemetry tells."""
    free_mb = {device.uuid: max(0, budget_mb(group, device) - device.used_mb) for device in snapshot.devices}
    return tuple(msgspec.structs.replace(entry, memory_mb=free_mb.get(entry.uuid, 0)) for entry in devices)


def preempted(
    group: SharedGroup, uid: str, member: Model | GPULease, reason: str, stamp: str
) -> SharedGroupStatus:
    """Return the status in which a holder makes room for a Model or GPULease."""
    next_status = advanced(group, uid, RELEASING, reason, stamp)
    holders = tuple(
        msgspec.structs.replace(holder, preempted_by=label_of(member)) if holder.uid == uid else holder
        for holder in next_status.holders
    )
    return msgspec.structs.replace(next_status, holders=holders, room_for=member.uid)


def _turns_of(member: Model | GPULease) -> tuple[int, int]:
    """Return the last turns that a status names: of the group that a Model was in before too, above which it continues."""
    if isinstance(member, GPULease):
        return member.status.turn, 0
    membership, engine = member.status.shared_group, member.status.backend
    return membership.turn if membership is not None else 0, engine.turn if engine is not None else 0


def rebound(group: SharedGroup, uid: str, model: Model, pod_uid: str, snapshot: Seen) -> SharedGroupStatus:
    """Return the status in which a holder has the devices of its placement, which its engine has got."""
    placement = model.status.placement or Placement()
    entries = rebound_devices(placement.devices, snapshot, pod_uid)
    holders = tuple(
        msgspec.structs.replace(holder, devices=entries) if holder.uid == uid else holder
        for holder in group.status.holders
    )
    shared = any(device.budget_mb is not None for device in group.status.devices)
    devices = _group_devices(group, placement, snapshot.sample, shared=shared)
    return _counted(group, msgspec.structs.replace(group.status, devices=devices), holders)


def _group_devices(
    group: SharedGroup, placement: Placement, sample: Sample | None, *, shared: bool
) -> tuple[GroupDevice, ...]:
    """Return the devices of the group: those of its holders, and those of a placement, as telemetry sees them now."""
    sizes = {d.uuid: d for d in sample.observed.devices} if sample is not None else {}
    holder_uuids = [device.uuid for holder in group.status.holders for device in holder.devices]
    current = {device.uuid: device for device in group.status.devices}
    return tuple(
        GroupDevice(
            uuid=uuid,
            total_mb=sizes[uuid].total_mb,
            budget_mb=budget_mb(group, sizes[uuid]) if shared else None,
        )
        if uuid in sizes
        else current.get(uuid, GroupDevice(uuid=uuid))
        for uuid in dict.fromkeys((*holder_uuids, *placement.uuids))
    )


def advanced(group: SharedGroup, uid: str, step: str, reason: str, stamp: str) -> SharedGroupStatus:
    """Return the status in which a holder is at another step; one whose memory is free again is off the list."""
    holders = tuple(
        msgspec.structs.replace(holder, step=step, reason=reason, since=stamp)
        if holder.uid == uid
        else holder
        for holder in group.status.holders
        if holder.uid != uid or step != FREED
    )
    return _counted(group, group.status, holders)


def reported(group: SharedGroup, condition: Condition, stamp: str) -> SharedGroupStatus:
    """Return the status with another condition."""
    status = msgspec.structs.replace(group.status, observed_generation=group.metadata.generation)
    return _with_conditions(status, [condition], stamp)


def initialized(
    group: SharedGroup,
    pods: Sequence[kube.Pod],
    models: Sequence[Model],
    highest: int,
    stamp: str,
    leases: Sequence[GPULease] = (),
) -> SharedGroupStatus:
    """Return the first status of a group, from the Pods that were listed after the object was read, and the leases before.

    A lease whose status says Granted holds its devices again.

    Pods whose gate is open hold the devices; gated and terminating ones, and those of a deleted Model, are about to leave. Turns continue
    above the highest that was seen, and above the object's own resourceVersion: numbers of a former life of the group stay unused. Which Pod is
    an engine's its name says, which cannot be edited as labels can; of two that claim one uid the Model's own counts.
    """
    version, engines = group.metadata.version, _engines(pods, models)
    turns = [*(pod_facts(pod).turn for pod, _ in engines), *(lease.status.turn for lease in leases)]
    turn = highest_turn(version, version, highest, group.status.turn, *turns)
    holders = [_adopted_lease(lease, stamp) for lease in leases if lease.granted and not lease.deleting]
    for pod, model in engines:
        if all(model_uid(pod.metadata) != holder.uid for holder in holders):
            holders.append(_adopted(pod, model, version, turn + 1, stamp))
            turn = max(turn, holders[-1].turn)
    status = msgspec.structs.replace(group.status, turn=turn)
    at_start = f"{counted(len(holders), 'holder')} at the start"
    first = [
        actions.true(group, conditions.ACCEPTED, GroupReason.ACCEPTED, ""),
        actions.true(group, INITIALIZED, GroupReason.INITIALIZED, at_start),
        actions.false(group, BLOCKED, GroupReason.NOT_BLOCKED, ""),
    ]
    return _with_conditions(_counted(group, status, tuple(holders)), first, stamp)


def _engines(pods: Sequence[kube.Pod], models: Sequence[Model]) -> Sequence[tuple[kube.Pod, Model]]:
    """Return the Pods that may use a device and have the name of a Model's engine, each with that Model; those first that are of its uid."""
    by_name = {model.pod_name: model for model in models}
    pairs = [
        (pod, by_name[pod.metadata.name])
        for pod in pods
        if pod.metadata.name in by_name and model_uid(pod.metadata) and _may_use_devices(pod)
    ]
    return sorted(pairs, key=lambda pair: (model_uid(pair[0].metadata) != pair[1].uid, pair[0].metadata.name))


def _may_use_devices(pod: kube.Pod) -> bool:
    """Return whether a Pod may use a device: not one of no turn that asks for none, whose Model joined the group while it ran on CPUs.

    As a holder it would wait for memory that others use, and that it never had.
    """
    if pod_facts(pod).turn or DEVICES_ANNOTATION in pod.metadata.annotations:
        return True
    needs = [container.resources for container in pod.spec.containers]
    return any("/" in name for one in needs for name in (*one.requests, *one.limits))


def _adopted(pod: kube.Pod, model: Model, version: int, next_turn: int, stamp: str) -> Holder:
    facts, uid = pod_facts(pod), model_uid(pod.metadata)
    has_turn, current = is_turn(facts.turn, version), uid == model.uid
    stays = has_turn and current and not facts.gated and not facts.deleting
    placement = model.status.placement or Placement()
    here = facts.node in (
        "",
        placement.node,
    )  # one that was left on another node has none of the placement's devices
    return Holder(
        model=model.metadata.name,
        uid=uid,
        turn=facts.turn if has_turn else next_turn,
        step=GRANTED if stays else RELEASING,
        node=facts.node or placement.node,
        devices=tuple(HeldDevice(uuid=uuid) for uuid in placement.uuids) if here else (),
        reason="" if stays else "its Pod was found when the group was initialised",
        since=stamp,
    )


def _adopted_lease(lease: GPULease, stamp: str) -> Holder:
    status = lease.status
    return Holder(
        lease=lease.metadata.name,
        uid=lease.uid,
        turn=status.turn,
        step=GRANTED,
        node=status.node,
        devices=status.devices,
        since=stamp,
    )


def _counted(group: SharedGroup, status: SharedGroupStatus, holders: tuple[Holder, ...]) -> SharedGroupStatus:
    """Return a status with these holders and the sums over them."""
    budgets = [device.budget_mb for device in status.devices if device.budget_mb is not None]
    return msgspec.structs.replace(
        status,
        observed_generation=group.metadata.generation,
        holders=holders,
        holder_names=", ".join(holder.label for holder in holders),
        held_mb=sum(holder.memory_mb for holder in holders),
        budget_mb=sum(budgets) if budgets else None,
    )


def _with_conditions(
    status: SharedGroupStatus, updates: Sequence[Condition], stamp: str
) -> SharedGroupStatus:
    by_type = {condition.type: condition for condition in status.conditions}
    for condition in updates:
        by_type[condition.type] = conditions.stamped(condition, by_type.get(condition.type), stamp)
    return msgspec.structs.replace(status, conditions=tuple(by_type.values()))
