"""GPULeases in the observed state: what an event makes of them, and what a process on a device is that belongs to one. Pure."""

from collections.abc import Mapping, Sequence

from flexinfer.api.lease import GPULease
from flexinfer.api.sharedgroup import HeldDevice
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.state.observed import LEASED, LeaseEnd, Observation, ObservedState
from flexinfer.state.precedence import covers, streamed_lease
from flexinfer.state.versions import Versions

WAITING_LEASES = ("waiting leases", "")
"""The entry of the index for the GPULeases that are not granted and not over."""


class Leases(Versions):
    """The part of a state being changed that takes GPULeases: ordered by resourceVersion, as Models are."""

    def _apply_lease(self, observation: Observation) -> bool:
        """Apply an event about a lease; tell whether it is one."""
        event, at, reply = observation.event, observation.at, observation.reply
        match event:
            case events.LeaseObserved(lease=lease):
                self._lease(lease, at, reply=reply, counts=False)
            case events.LeaseRestored(lease=lease):
                self._lease(lease, at, reply=reply, counts=True)
            case events.LeaseDeleted():
                self._lease_deleted(event, reply=reply)
            case events.LeaseTimed():
                self._lease_timed(event, at)
            case _:
                return False
        return True

    def _lease(self, lease: GPULease, at: float, *, reply: bool, counts: bool) -> None:
        """Apply a lease unless something newer is known; what the stream, or `counts`, takes back counts, as for a Model."""
        version, current = lease.metadata.version, self.leases.read().get(lease.key)
        restored = not reply and self._streamed(streamed_lease(lease.key), version)
        cached_version = current.metadata.version if current is not None else None
        if self._is_outdated(lease.uid, version, cached_version, counts=restored or counts):
            return
        if lease.uid not in self.first_seen.read():
            self.first_seen.write()[lease.uid] = at
        self._put_lease(lease.key, current, lease)

    def _lease_deleted(self, event: events.LeaseDeleted, *, reply: bool) -> None:
        key = f"{event.namespace}/{event.name}"
        if not reply:
            self._streamed(streamed_lease(key), event.version)
        current = self.leases.read().get(key)
        if current is not None and covers(event, current.uid, current.metadata.version):
            self._put_lease(key, current, None)
            self._note_deleted(current.uid, event.version)
        if event.uid:
            self._note_deleted(event.uid, event.version)

    def _put_lease(self, key: str, before: GPULease | None, after: GPULease | None) -> None:
        self._move(key, _entries(before), _entries(after))
        if after is not None:
            self.leases.write()[key] = after
        else:
            self.leases.drop(key)
        if before is not None and (after is None or after.uid != before.uid):
            self.lease_ends.drop(before.uid)

    def _lease_timed(self, event: events.LeaseTimed, at: float) -> None:
        """Take when a lease ends, by this process's clocks."""
        current = self.leases.read().get(f"{event.namespace}/{event.name}")
        if current is not None and current.uid == event.uid:
            self.lease_ends.write()[event.uid] = LeaseEnd(event.expires_at, at + event.remaining_seconds, at)


def _entries(lease: GPULease | None) -> frozenset[tuple[str, str]]:
    if lease is None:
        return frozenset()
    group = LEASED, f"{lease.metadata.namespace}/{lease.spec.group}"
    return frozenset({group} if lease.granted or lease.ended else {group, WAITING_LEASES})


def is_outside_pods(process: DeviceProcess) -> bool:
    """Return whether a process is seen to be in no Pod: the agent could read who it is, and it is in no control group of one."""
    return bool(process.started and process.name) and not process.pod_uid


def processes_of(entry: HeldDevice, device: Device) -> Sequence[DeviceProcess]:
    """Return the processes on a device that belong to the lease which holds it: those outside of Pods that came since its grant."""
    before = {(process.pid, process.name) for process in entry.other_processes}
    return [p for p in device.processes if is_outside_pods(p) and (p.pid, p.name) not in before]


def leased_on(state: ObservedState, node: str) -> Mapping[int, str]:
    """Return the numbers of the processes on a node that belong to leases -> the keys of these."""
    sample = state.gpus.get(node)
    devices = {device.uuid: device for device in sample.observed.devices} if sample is not None else {}
    return {
        process.pid: f"{group.metadata.namespace}/{holder.lease}"
        for group in state.groups.values()
        for holder in group.status.holders
        if holder.lease and holder.node == node
        for entry in holder.devices
        if entry.uuid in devices
        for process in processes_of(entry, devices[entry.uuid])
    }
