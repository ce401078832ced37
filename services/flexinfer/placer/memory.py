"""The memory of a node's devices, as one Model may count on it. Pure.

Measured free memory is the start. What members of the Model's own group hold there counts as free for it, and so does what its own
former Pod holds: they stop before it starts. What other Models will still take is subtracted: a Model that starts, or whose engine has
not loaded yet, counts with its footprint where that is larger than what its processes are seen to hold. A process that belongs to no
Pod of a Model keeps what it has. A ResourceClaim of another user takes what the scheduler has counted for it, also before its Pod holds that.
Which Models and claims these are is `claims`' and `state`'s.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.state.leases import is_outside_pods

_MOST_NAMED = 3
_SMALLEST_NAMED_MB = 64


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a Model or a GPULease takes on a node: the uids of its Pods, the numbers of a lease's processes, its devices (none: not known which), and its need of each, in MiB.

    `loaded`: its engine has loaded, and telemetry shows it. `leaves`: it stops before the Model that is decided on starts. `whole`: it has its
    devices alone, also where others could be shared. `leased`: it is a GPULease, which holds what its processes are seen to hold. `foreign`: it is a
    ResourceClaim of another user.
    """

    name: str
    pods: frozenset[str] = frozenset()
    pids: frozenset[int] = frozenset()
    uuids: tuple[str, ...] = ()
    need_mb: int = 0
    loaded: bool = False
    leaves: bool = False
    whole: bool = False
    leased: bool = False
    foreign: bool = False


class Use(msgspec.Struct, frozen=True):
    """Memory that is not free, in MiB, and by whom: a Model, or what is not a Model's, a process or a ResourceClaim (`claimed`); empty: no process is seen to hold it."""

    by: str
    mb: int
    foreign: bool = False
    claimed: bool = False

    @property
    def text(self) -> str:
        """The use as a part of a message."""
        return f"{self.by} {self.mb} MiB" if self.by else f"{self.mb} MiB in use by no process that is seen"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A device with what a Model may count on: free memory in MiB, the largest uses of the rest, the Model or the ResourceClaim of another user that has it for itself."""

    device: Device
    free_mb: int
    uses: tuple[Use, ...] = ()
    taken_by: str = ""
    allocated_to: str = ""
    reserved_for: str = ""


def rooms(
    devices: Sequence[Device],
    claims: Sequence[Claim],
    shared: Collection[str] = (),
    reservations: Mapping[str, str] | None = None,
) -> tuple[Room, ...]:
    """Return every device with its room.

    `shared` are the uuids of the devices that several Pods may have, `reservations` the shared groups by the uuid of their devices.
    """
    pods = frozenset(uid for claim in claims for uid in claim.pods)
    attributed = any(process.pod_uid for device in devices for process in device.processes)
    located_claims = [_located(claim, devices) for claim in claims]
    groups = reservations or {}
    return tuple(
        Room(
            device=device,
            free_mb=_free(device, located_claims, pods, attributed=attributed),
            uses=_uses(device, located_claims, pods),
            taken_by=_taker(device, located_claims, shared=device.uuid in shared, foreign=False),
            allocated_to=_taker(device, located_claims, shared=device.uuid in shared, foreign=True),
            reserved_for=groups.get(device.uuid, ""),
        )
        for device in devices
    )


def measured_rooms(devices: Sequence[Device]) -> tuple[Room, ...]:
    """Return the rooms of devices that no one takes anything of: as measured."""
    return tuple(
        Room(
            device=device,
            free_mb=max(0, min(device.free_mb, device.total_mb)),
            uses=_uses(device, (), frozenset()),
        )
        for device in devices
    )


def _located(claim: Claim, devices: Sequence[Device]) -> Claim:
    """Return a claim with the devices on which its processes are seen, wherever it was assigned to; a ResourceClaim has those that it has."""
    if claim.foreign:
        return claim
    uuids = tuple(d.uuid for d in devices if any(p.pod_uid in claim.pods for p in d.processes))
    return msgspec.structs.replace(claim, uuids=uuids) if len(uuids) >= max(1, len(claim.uuids)) else claim


def _free(device: Device, claims: Sequence[Claim], pods: frozenset[str], *, attributed: bool) -> int:
    free = max(0, min(device.free_mb, device.total_mb))
    returned_mb = _returned(device, claims, pods, device.total_mb - free, attributed=attributed)
    is_visible, staying = _is_seen(device), [claim for claim in claims if not claim.leaves]
    pending = sum(_pending(device, claim) for claim in staying if is_visible or not claim.foreign)
    remaining_mb = min(device.total_mb, free + returned_mb) - pending
    promised_mb = sum(claim.need_mb for claim in staying if device.uuid in claim.uuids)
    foreign = any(claim.foreign and device.uuid in claim.uuids for claim in staying)
    return max(
        0, min(remaining_mb, device.total_mb - promised_mb) if foreign and not is_visible else remaining_mb
    )


def _is_seen(device: Device) -> bool:
    """Return whether all that is in use is seen with the Pod that has it. Else no one knows how much of it a ResourceClaim has: what is promised counts."""
    return device.processes_known and all(
        process.pod_uid or is_outside_pods(process) for process in device.processes
    )


def _pending(device: Device, claim: Claim) -> int:
    """Return what a Model will still take of a device; of one whose devices are not known, it may be any."""
    if claim.loaded or (claim.uuids and device.uuid not in claim.uuids):
        return 0
    return max(0, claim.need_mb - _seen(device, claim))


def _returned(
    device: Device, claims: Sequence[Claim], pods: frozenset[str], used_mb: int, *, attributed: bool
) -> int:
    """Return what will be free before the Model starts.

    Where telemetry names the Pods of processes, that is what those of the leaving Models hold, and those of Pods that are gone. Elsewhere it
    is their footprint, or all that is in use if that is not known.
    """
    relevant_claims = (c for c in claims if c.leaves and not (c.leased and device.processes_known))
    leaving = [c for c in relevant_claims if not c.uuids or device.uuid in c.uuids]
    visible_mb = sum(_seen(device, claim) for claim in claims if claim.leaves)
    if attributed:
        ended_mb = sum(p.used_mb for p in device.processes if p.pod_uid and p.pod_uid not in pods)
        needs = [claim.need_mb or used_mb for claim in leaving if not claim.pods]
        return min(used_mb, visible_mb + min(ended_mb, sum(needs)))
    unseen = [claim.need_mb or used_mb for claim in leaving if not _seen(device, claim)]
    return min(used_mb, visible_mb + sum(unseen))


def _seen(device: Device, claim: Claim) -> int:
    return sum(p.used_mb for p in device.processes if p.pod_uid in claim.pods or p.pid in claim.pids)


def _taker(device: Device, claims: Sequence[Claim], *, shared: bool, foreign: bool) -> str:
    staying = (c for c in claims if not c.leaves and device.uuid in c.uuids and c.foreign == foreign)
    return next((claim.name for claim in staying if claim.whole or not shared), "")


def _uses(device: Device, claims: Sequence[Claim], pods: frozenset[str]) -> tuple[Use, ...]:
    """Return the largest uses of a device that stay, the first one first: those of Models, and of processes that belong to none."""
    models = [
        Use(
            claim.name,
            max(_seen(device, claim), 0 if claim.loaded else claim.need_mb),
            claim.foreign,
            claim.foreign,
        )
        for claim in claims
        if not claim.leaves and device.uuid in claim.uuids
    ]
    lease_pids = {pid for claim in claims for pid in claim.pids}
    foreign = [
        Use(_named(p), p.used_mb, foreign=True)
        for p in device.processes
        if p.pod_uid not in pods and p.pid not in lease_pids
    ]
    unseen = Use("", device.used_mb - sum(p.used_mb for p in device.processes))
    uses = [use for use in (*models, *foreign, unseen) if use.mb >= _SMALLEST_NAMED_MB]
    return tuple(sorted(uses, key=lambda use: (-use.mb, use.by))[:_MOST_NAMED])


def _named(process: DeviceProcess) -> str:
    name = process.name.rpartition("/")[2] or "process"
    return f"{name} (pid {process.pid})"
