"""Whether the memory of a stopped holder is free again, and what keeps it from being so. Pure.

In doubt it is not. What is in use beyond the processes that were there before the grant counts as the leaver's; where the processes are
not known, what was in use before the grant is the measure. Processes outside of Pods are a leaver's only if that is a GPULease. A device that is missing, or not healthy, says nothing, and so does a node
that no longer sends telemetry. Only a node that never sent any counts as free by time.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeGuard

import msgspec

from flexinfer.api.group_reasons import GroupReason
from flexinfer.api.placement import PlacedDevice
from flexinfer.api.sharedgroup import GroupProcess, HeldDevice, Holder
from flexinfer.events.nodes import Device
from flexinfer.state.leases import is_outside_pods
from flexinfer.state.observed import STALE_SECONDS, ObservedState, Sample

MEMORY_SLACK_MB = 512
"""What a driver keeps for itself on an empty device."""
_PROCESSES_NAMED = 5


class Blocked(msgspec.Struct, frozen=True):
    """What keeps devices from being released; the message holds nothing that changes while it lasts."""

    reason: GroupReason
    message: str


class Freeing(msgspec.Struct, frozen=True, kw_only=True):
    """How far the memory of a stopped holder is: free, or blocked, or `again` is when time alone may change that.

    `in_use` is what is known to use it: blocked once that takes too long.
    """

    free: bool = False
    blocked: Blocked | None = None
    in_use: str = ""
    again: float | None = None


def freeing(
    holder: Holder,
    since: float,
    state: ObservedState,
    now: float,
    settle_seconds: float,
    staying: Collection[str] = (),
) -> Freeing:
    """Return how far the memory of a holder is that was seen `Stopped` at `since`; `staying` are the uids of the Pods of other Models.

    A device is named by telemetry alone. Of a holder without one it is not known which device its engine had: where
    telemetry has come since, all devices of the node count as its own.
    """
    sample = state.gpus.get(holder.node)
    if not holder.devices and sample is not None:
        every = tuple(HeldDevice(uuid=device.uuid) for device in sample.observed.devices)
        holder = msgspec.structs.replace(holder, devices=every)
    if not holder.devices or _is_gone(holder.node, state):
        due = since + settle_seconds
        return Freeing(free=True) if now >= due else Freeing(again=due)
    silent_at = max(since, sample.at if sample is not None else since) + STALE_SECONDS
    if sample is None or sample.at <= since:  # taken before the engine had stopped
        return Freeing(blocked=_silent(holder)) if now >= silent_at else Freeing(again=silent_at)
    progress = _look(holder, sample, staying)
    if progress.free or progress.blocked is not None or now < silent_at:
        return msgspec.structs.replace(progress, again=None if progress.free else silent_at)
    return Freeing(blocked=_silent(holder))


def _is_gone(node: str, state: ObservedState) -> bool:
    """Return whether a node was given up: deleted, or marked out of service; nothing runs there any more."""
    facts = state.nodes.get(node)
    if facts is None:
        return node not in state.gpus
    return facts.out_of_service


def _silent(holder: Holder) -> Blocked:
    uuids = ", ".join(device.uuid for device in holder.devices)
    return Blocked(
        GroupReason.TELEMETRY_SILENT,
        f"node {holder.node} has sent no telemetry for {STALE_SECONDS:.0f}s since {holder.label} stopped, so the memory of {uuids} is "
        f"unknown; start the agent on {holder.node} again, or, if the node is lost, delete it: kubectl delete node {holder.node}",
    )


def _look(holder: Holder, sample: Sample, staying: Collection[str]) -> Freeing:
    """Return what a sample taken after the stop shows."""
    devices = {device.uuid: device for device in sample.observed.devices}
    for entry in holder.devices:
        blocker = _unusable(holder, entry, devices.get(entry.uuid))
        if blocker is not None:
            return Freeing(blocked=blocker)
    lease = bool(holder.lease)
    in_use = [
        text
        for entry in holder.devices
        if (text := _in_use(entry, devices[entry.uuid], staying, lease=lease))
    ]
    return Freeing(in_use="; ".join(in_use)) if in_use else Freeing(free=True)


def _unusable(holder: Holder, entry: HeldDevice, device: Device | None) -> Blocked | None:
    exits = f"restart node {holder.node}, or, if the device is lost, delete the node: kubectl delete node {holder.node}"
    if device is None:
        message = f"device {entry.uuid} of {holder.label} is no longer reported by node {holder.node}, so its memory is unknown; {exits}"
        return Blocked(GroupReason.DEVICE_MISSING, message)
    if not device.healthy:
        message = f"device {entry.uuid} of {holder.label} on node {holder.node} is not healthy, so its memory is unknown; reset it, or {exits}"
        return Blocked(GroupReason.DEVICE_UNHEALTHY, message)
    return None


def _in_use(entry: HeldDevice, device: Device, staying: Collection[str], *, lease: bool) -> str:
    """Return what still uses a device beyond what others use; empty if that is within the slack.

    Other Models count for what their processes are seen to hold, not for their entries: one that still loads would hide this one.
    """
    foreign = {(process.pid, process.name) for process in entry.other_processes}
    # Processes that were named at the grant would be named now: where none is, what is in use is not theirs. Where none can be named any more,
    # they may have ended since: what they used then excuses nothing.
    has_list = is_listed(device) or (device.processes_known and bool(foreign))
    before = (entry.used_before_mb or 0) if device.processes_known or not foreign else 0
    beyond = device.used_mb - before
    if beyond <= MEMORY_SLACK_MB and not (has_list and _listed_before(entry)):
        return ""
    if not has_list:
        return f"{entry.uuid} (processes unknown)"
    rest = [
        p
        for p in device.processes
        if (p.pid, p.name) not in foreign and p.pod_uid not in staying and (lease or not is_outside_pods(p))
    ]
    if device.used_mb - sum(p.used_mb for p in device.processes if p not in rest) <= MEMORY_SLACK_MB:
        return ""
    names = ", ".join(f"{process.pid} {process.name}".strip() for process in rest[:_PROCESSES_NAMED])
    noun = "process" if len(rest) == 1 else "processes"
    return f"{entry.uuid} ({f'{noun} {names}' if names else 'no process is seen to use it'})"


def _listed_before(entry: HeldDevice) -> bool:
    """Return whether the processes were known at the grant: else what was in use then is the measure, also where they are listed now."""
    return bool(entry.other_processes) or (entry.used_before_mb or 0) <= MEMORY_SLACK_MB


def is_listed(device: Device) -> bool:
    """Return whether telemetry says which processes use a device: a list that is empty while memory is in use says nothing."""
    return device.processes_known and (bool(device.processes) or device.used_mb <= MEMORY_SLACK_MB)


def is_recent(sample: Sample | None, now: float) -> TypeGuard[Sample]:
    """Return whether there is a sample, and it is not too old to say what is in use."""
    return sample is not None and now < sample.stale_at


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a node at a time: its last sample, the uids of the Pods that other Models have there, and the numbers of leases' processes."""

    sample: Sample | None
    now: float
    pods: frozenset[str] = frozenset()
    pids: frozenset[int] = frozenset()

    @property
    def devices(self) -> Sequence[Device]:
        """The devices, as far as a recent sample tells."""
        return self.sample.observed.devices if is_recent(self.sample, self.now) else ()


def held_devices(placed_devices: Sequence[PlacedDevice], snapshot: Seen) -> tuple[HeldDevice, ...]:
    """Return devices as they are granted, with what is in use on them.

    What Pods of other Models use is left out where it is known, and what the processes of leases use: they may leave before this holder does.
    """
    devices = {device.uuid: _without(device, snapshot) for device in snapshot.devices}
    return tuple(_held(device.uuid, device.memory_mb, devices) for device in placed_devices)


def rebound_devices(
    placed_devices: Sequence[PlacedDevice], snapshot: Seen, pod_uid: str
) -> tuple[HeldDevice, ...]:
    """Return devices that an engine has got after the grant; what its own Pod uses there by now is not what others use.

    Where the processes are not known nothing counts as in use by others.
    """
    listed_uuids = {device.uuid for device in snapshot.devices if device.processes_known}
    entries = held_devices(placed_devices, msgspec.structs.replace(snapshot, pods=snapshot.pods | {pod_uid}))
    return tuple(
        one
        if one.uuid in listed_uuids or one.used_before_mb is None
        else msgspec.structs.replace(one, used_before_mb=0)
        for one in entries
    )


def _without(device: Device, snapshot: Seen) -> Device:
    """Return a device as it would be without the Pods of other Models and the processes of leases, as far as its processes are known."""
    others = tuple(
        p for p in device.processes if p.pod_uid not in snapshot.pods and p.pid not in snapshot.pids
    )
    theirs = sum(process.used_mb for process in device.processes) - sum(process.used_mb for process in others)
    return msgspec.structs.replace(device, processes=others, used_mb=max(0, device.used_mb - theirs))


def _held(uuid: str, memory_mb: int, devices: Mapping[str, Device]) -> HeldDevice:
    device = devices.get(uuid)
    if device is None or not device.healthy:
        return HeldDevice(uuid=uuid, memory_mb=memory_mb)
    others = tuple(GroupProcess(pid=process.pid, name=process.name) for process in device.processes)
    return HeldDevice(
        uuid=uuid, memory_mb=memory_mb, used_before_mb=device.used_mb, other_processes=others[:64]
    )
