"""Whether the devices of a group have room for one more holder. Pure.

On every device the memory of all holders that are on the list, what others use, and what the next holder needs must be within the budget: the
total of the device less the group's reserve. What others use is all that is in use beyond what the processes of the holders are seen to hold,
each counted at most with its entry: a holder that outgrew its entry, memory that came back late and a foreign process all count. The sample
must be from after the last release. What would be so without some of the holders is asked for a plan: all that those use comes back then.

Where that cannot be judged, or where a member requests it, there is one holder at a time; of its devices those are judged that can be. A device
whose processes telemetry does not tell can be judged while no holder is on it: all that is in use is others' then.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.api.sharedgroup import GRANTED, ONE_AT_A_TIME, HeldDevice, Holder, SharedGroup
from flexinfer.arbiter.member import Member, of_holder
from flexinfer.arbiter.memory_release import is_listed, is_recent
from flexinfer.arbiter.unseen import unseen
from flexinfer.events.nodes import Device
from flexinfer.state.index import OCCUPYING
from flexinfer.state.leases import is_outside_pods, processes_of
from flexinfer.state.observed import ObservedState, Sample

_ROUND_MB = 512
"""Memory of others is said in such steps: it changes with every sample."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a member may be one more holder; else `why` not, in words that do not change with every sample.

    `sampled`: telemetry from after the last release has been seen, so that it was judged at all.
    """

    fits: bool
    why: str = ""
    sampled: bool = True


def room(
    member: Member,
    group: SharedGroup,
    holders: Sequence[Holder],
    state: ObservedState,
    now: float,
    kept_room: Iterable[PlacedDevice] = (),
) -> Room:
    """Return whether a member fits on its devices beside `holders` of its group; `kept_room` is room that is kept for another."""
    placement = member.placement
    entries = [
        *kept_room,
        *(PlacedDevice(uuid=d.uuid, memory_mb=d.memory_mb) for h in holders for d in h.devices),
    ]
    doubt = unseen(member, state, now) if member.is_lease else ""
    if doubt:
        return Room(fits=False, why=doubt)
    if holders or entries:
        if any(holder.node != placement.node for holder in holders):
            return Room(fits=False, why=f"it is placed on node {placement.node}, the holders are not")
        single = alone(member, group, state, now) or _other_alone(member, holders, group, state, now)
        if single:
            return Room(fits=False, why=f"one holder at a time: {single}")
    sample = recent(placement.node, state, now)
    needs = [
        need for need in placement.devices if sample is not None and _is_judged(need.uuid, group, sample)
    ]
    if sample is None or not needs:
        return Room(fits=not holders)  # `alone` has said so: nothing can be judged
    staying = frozenset(holder.uid for holder in holders)
    short = [text for need in needs if (text := _short(need, entries, group, sample, state, staying))]
    sampled = sample.at >= state.released_at.get(group.key, 0.0)
    wait_message = "waiting for telemetry from after the last release"
    return Room(
        fits=sampled and not short, why="; ".join(short) or ("" if sampled else wait_message), sampled=sampled
    )


def alone(member: Member, group: SharedGroup, state: ObservedState, now: float) -> str:
    """Return why a member holds its devices alone; empty if others may hold them too."""
    placement = member.placement
    if group.spec.mode == ONE_AT_A_TIME:
        return f"the group has mode {ONE_AT_A_TIME}"
    if member.exclusive:
        return member.exclusive
    if not placement.devices or not all(device.memory_mb for device in placement.devices):
        unknown = "which GPU it gets" if member.is_lease else f"the memory of {member.label}"
        remedy = "" if member.is_lease else ": set spec.gpu.vramEstimateMB"
        return f"{unknown} is not known{remedy}"
    sample = recent(placement.node, state, now)
    if sample is None or not _lists_processes(placement, sample):
        return f"telemetry of node {placement.node} does not tell which process uses how much of {', '.join(placement.uuids)}"
    if not placement.shared:
        return f"node {placement.node} gives a GPU to one Pod at a time"
    return ""


def apart(member: Member, other: Member) -> str:
    """Return why two members are never holders together: of two leases it could not be told to which a process outside of Pods belongs."""
    both = member.is_lease and other.is_lease
    return f"{other.label} comes first, and which process is of which lease cannot be told" if both else ""


def budget_mb(group: SharedGroup, device: Device) -> int:
    """Return what the holders of a device may use together, in MiB."""
    return max(0, device.total_mb - group.spec.reserve_mb)


def too_large(member: Member, group: SharedGroup, state: ObservedState) -> str:
    """Return why a member never fits on its devices, whatever leaves, by their size in the last sample; empty if it may.

    Of a Model the placer says so (`Placed`): it may fit elsewhere. A lease is for the devices of its group.
    """
    sample = state.gpus.get(member.placement.node)
    sizes = {device.uuid: device for device in sample.observed.devices} if sample is not None else {}
    for need in member.placement.devices:
        device = sizes.get(need.uuid)
        if device is not None and device.total_mb and need.memory_mb > budget_mb(group, device):
            reserve = f", {group.spec.reserve_mb} of them in reserve" if group.spec.reserve_mb else ""
            return f"it needs {need.memory_mb} MiB of {need.uuid}, which has {device.total_mb} MiB in all{reserve}"
    return ""


def _other_alone(
    member: Member, holders: Sequence[Holder], group: SharedGroup, state: ObservedState, now: float
) -> str:
    """Return why a holder has its devices alone; one that was deleted has, since nothing is known of it any more."""
    for holder in holders:
        other = of_holder(holder, group, state)
        if other is None:
            return f"{holder.label} was deleted"
        if other.is_lease and other.exclusive:
            return other.exclusive
        if not holder.devices or not all(device.memory_mb for device in holder.devices):
            return f"the memory of {holder.label} is not known: it was started before its turn"
        why = apart(member, other) or alone(_as_held(other, holder), group, state, now)
        if why:
            return why
    return ""


def _as_held(member: Member, holder: Holder) -> Member:
    """Return a holder on the node and devices of its entry: by now it may be placed elsewhere, and still holds these."""
    placement = member.placement
    if placement.node == holder.node and placement.uuids == tuple(device.uuid for device in holder.devices):
        return member
    devices = tuple(PlacedDevice(uuid=device.uuid, memory_mb=device.memory_mb) for device in holder.devices)
    placement = msgspec.structs.replace(member.placement, node=holder.node, devices=devices)
    return msgspec.structs.replace(member, placement=placement)


def recent(node: str, state: ObservedState, now: float) -> Sample | None:
    """Return the last sample of a node, if it is not too old to say what is in use."""
    sample = state.gpus.get(node)
    return sample if is_recent(sample, now) else None


def _lists_processes(placement: Placement, sample: Sample) -> bool:
    """Return whether a sample says which processes use every device of a placement."""
    return bool(placement.uuids) and all(_is_reported(uuid, sample) for uuid in placement.uuids)


def _is_reported(uuid: str, sample: Sample) -> bool:
    """Return whether a sample says which processes use a device."""
    device = _healthy(uuid, sample)
    return device is not None and is_listed(device)


def _is_judged(uuid: str, group: SharedGroup, sample: Sample) -> bool:
    """Return whether a sample says what others use of a device."""
    has_holder = any(uuid in holder.uuids for holder in group.status.holders)
    return _is_reported(uuid, sample) if has_holder else _healthy(uuid, sample) is not None


def _healthy(uuid: str, sample: Sample) -> Device | None:
    """Return a device as a sample shows it; None if it does not, or says that it cannot be used."""
    return next((d for d in sample.observed.devices if d.uuid == uuid and d.healthy), None)


def _short(
    need: PlacedDevice,
    entries: Sequence[PlacedDevice],
    group: SharedGroup,
    sample: Sample,
    state: ObservedState,
    staying: Collection[str],
) -> str:
    """Return what is missing on a device; empty if it has room. Raises StopIteration for a device that is not in the sample."""
    device = next(d for d in sample.observed.devices if d.uuid == need.uuid)
    held_mb = sum(entry.memory_mb for entry in entries if entry.uuid == need.uuid)
    budget, others = budget_mb(group, device), others_mb(device, group, state, staying)
    if held_mb + others + need.memory_mb <= budget:
        return ""
    parts = [f"needs {need.memory_mb} of {budget} MiB of {need.uuid}"]
    if held_mb:
        parts.append(f"holders have {held_mb} MiB")
    if held_mb + need.memory_mb <= budget:
        parts.append(f"others use about {-(-others // _ROUND_MB) * _ROUND_MB} MiB")
    return ", ".join(parts)


def others_mb(device: Device, group: SharedGroup, state: ObservedState, staying: Collection[str]) -> int:
    """Return what is in use of a device beyond what the holders' processes are seen to hold, each at most with its entry.

    `staying` are the uids of the holders that stay. What the others hold comes back, however much it is; of one whose engine stops or has
    stopped that is up to its entry also where no process is seen to hold it any more.
    """
    pods = pods_of(group, state)
    ours = late = 0
    for holder in group.status.holders:
        for entry in (entry for entry in holder.devices if entry.uuid == device.uuid):
            used_mb = _used_mb(holder, entry, device, pods[holder.uid])
            ours += min(entry.memory_mb, used_mb) if holder.uid in staying else used_mb
            if holder.uid not in staying and holder.step != GRANTED:
                late += max(0, entry.memory_mb - used_mb)
    rest = max(0, device.used_mb - ours)
    return max(rest - late, min(rest, _foreign_mb(device, group, state, pods))) if late else rest


def _foreign_mb(
    device: Device, group: SharedGroup, state: ObservedState, pods: Mapping[str, frozenset[str]]
) -> int:
    """Return what processes are seen to hold of a device that are of no holder of a group and of none that has left it."""
    ours, lease_pids = frozenset[str]().union(*pods.values()), _leased(device, group)
    present = frozenset(pod.uid for workload in state.workloads.values() for pod in workload.pods) - ours
    before = {
        (process.pid, process.name)
        for holder in group.status.holders
        for entry in holder.devices
        if entry.uuid == device.uuid
        for process in entry.other_processes
    }
    foreign = (p for p in device.processes if p.pod_uid not in ours and p.pid not in lease_pids)
    return sum(
        p.used_mb for p in foreign if p.pod_uid in present or (p.pid, p.name) in before or is_outside_pods(p)
    )


def _leased(device: Device, group: SharedGroup) -> frozenset[int]:
    """Return the numbers of the processes on a device that count as those of a lease that is on the list."""
    leases = [entry for holder in group.status.holders if holder.lease for entry in holder.devices]
    return frozenset(
        p.pid for entry in leases if entry.uuid == device.uuid for p in processes_of(entry, device)
    )


def _used_mb(holder: Holder, entry: HeldDevice, device: Device, pods: Collection[str]) -> int:
    """Return what the processes of a holder are seen to hold of a device: those of its Pods, or of its lease."""
    if holder.lease:
        return sum(process.used_mb for process in processes_of(entry, device))
    return sum(p.used_mb for p in device.processes if p.pod_uid and p.pod_uid in pods)


def pods_of(group: SharedGroup, state: ObservedState) -> Mapping[str, frozenset[str]]:
    """Return the uids of the Pods of each holder, by its uid, also of those that are gone: a sample may still show them; a lease has none."""
    pods: dict[str, frozenset[str]] = {}
    for holder in group.status.holders:
        member = of_holder(holder, group, state)
        model = member.model if member is not None else None
        uids = [pod.uid for pod in state.workload(model).pods] if model is not None else []
        uids += state.lost_pods.get(model.key, ()) if model is not None else ()
        backend = model.status.backend if model is not None else None
        status_uids = [backend.pod_uid] if backend is not None and backend.pod_uid else []
        pods[holder.uid] = frozenset([*uids, *status_uids])
    return pods


def pods_of_others(node: str, uid: str, state: ObservedState) -> frozenset[str]:
    """Return the uids of the Pods that other Models than the one of a uid have on a node: what their processes use is not its own."""
    models = [state.effective(key) for key in state.under(OCCUPYING, node)]
    others = [model for model in models if model is not None and model.uid != uid]
    return frozenset(pod.uid for model in others for pod in state.workload(model).pods)
