"""SharedGroup: the one object in which the devices of a shared group are given out. Pure.

The CRD in `crds/sharedgroups.yaml` is the public schema; a contract test keeps these structs equal to it. The arbiter creates the object
and alone writes its status; everybody else only reads it.
"""

import hashlib
import re
from functools import lru_cache

import msgspec

from flexinfer.api import conditions
from flexinfer.api.base import Resource
from flexinfer.api.conditions import Condition
from flexinfer.api.durations import seconds_or
from flexinfer.api.groupversion import API_VERSION, GROUP_KIND
from flexinfer.api.metadata import CustomResource
from flexinfer.api.placement import Placement

GRANTED, RELEASING, STOPPED, FREED = "Granted", "Releasing", "Stopped", "Freed"
"""The steps of a holder, in their order. `Freed` is never stored: a holder whose memory is free again is taken off the list."""
BUDGET, ONE_AT_A_TIME = "Budget", "OneAtATime"
"""The modes: several holders within the memory of the devices, or one."""
INITIALIZED, BLOCKED = "Initialized", "Blocked"
"""Condition types of a SharedGroup, beside Accepted."""
TURNS_AHEAD = 10**12
"""By how much a turn may be above a resourceVersion of its group. Turns begin there and grow by one with a write, so they are above it only where
an API server was restored from a backup; a larger number is one that another client wrote on a Pod or into a status."""
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_HASHED = re.compile(r"-[0-9a-f]{16}$")
_SLUG_LENGTH, _LONGEST_GROUP = 40, 63


class GroupProcess(Resource, frozen=True, kw_only=True):
    """A process on a device that belongs to no holder."""

    pid: int
    name: str = ""


class HeldDevice(Resource, frozen=True, kw_only=True):
    """A device of a holder.

    `memory_mb` is what it is expected to use. The rest was seen when it was granted: what was in use before (None without telemetry), and
    by which processes.
    """

    uuid: str
    memory_mb: int = msgspec.field(name="memoryMB", default=0)
    used_before_mb: int | None = msgspec.field(name="usedBeforeMB", default=None)
    other_processes: tuple[GroupProcess, ...] = ()


class Holder(Resource, frozen=True, kw_only=True):
    """A Model or a GPULease that holds the group's devices, or has not released them yet: the one of `model` and `lease` that has a name.

    `node` and `devices` are its placement when the turn was granted, kept after the Model is deleted or its spec changes: that is where
    its memory must become free. `since` is RFC 3339, for people. `made_room`: others had to leave for it; `away_seconds` is
    then for how long it had been away since it had to leave itself, None if it had not. `preempted_by` is the Model or GPULease that it makes room for itself.
    """

    model: str = ""
    lease: str = ""
    uid: str
    turn: int
    step: str
    node: str = ""
    devices: tuple[HeldDevice, ...] = ()
    reason: str = ""
    since: str = ""
    made_room: bool = False
    away_seconds: int | None = None
    preempted_by: str = ""

    @property
    def label(self) -> str:
        """Its name for people, which tells a GPULease from a Model of the same name."""
        return f"lease {self.lease}" if self.lease else self.model

    @property
    def memory_mb(self) -> int:
        """What it is expected to use, over all its devices."""
        return sum(device.memory_mb for device in self.devices)

    @property
    def uuids(self) -> tuple[str, ...]:
        """Its devices, as far as telemetry named them."""
        return tuple(device.uuid for device in self.devices)

    def is_on(self, placement: Placement | None) -> bool:
        """Return whether a placement names the node and the devices of this turn: its memory is looked for there alone."""
        assignment = placement or Placement()
        return assignment.node == self.node and sorted(assignment.uuids) == sorted(self.uuids)

    def covers(self, placement: Placement | None) -> bool:
        """Return whether this turn is of a placement's node and devices, and of as much memory of each, as far as both are known."""
        entry = {device.uuid: device.memory_mb for device in self.devices}
        devices = placement.devices if placement is not None else ()
        more = any(device.memory_mb > (entry.get(device.uuid) or device.memory_mb) for device in devices)
        return self.is_on(placement) and not more


class GroupDevice(Resource, frozen=True, kw_only=True):
    """A device of the group.

    `budget_mb` is what its holders may use together: its total less the reserve. None where only one holder may have it at a time.
    """

    uuid: str
    total_mb: int = msgspec.field(name="totalMB", default=0)
    budget_mb: int | None = msgspec.field(name="budgetMB", default=None)


class SharedGroupSpec(Resource, frozen=True, kw_only=True):
    """The spec: the exact name of the group, as Models name it in `spec.gpu.shared`, and how its devices are shared.

    `min_stay` and `max_wait` are durations, `reserve_mb` is MiB of each device that are never given out.
    """

    group: str
    mode: str = BUDGET
    min_stay: str = "30s"
    max_wait: str = "5m"
    reserve_mb: int = msgspec.field(name="reserveMB", default=512)

    @property
    def stay_seconds(self) -> float:
        """MinStay in seconds; the default's for a text that is not a duration."""
        return seconds_or(self.min_stay, SharedGroupSpec(group=self.group).min_stay)

    @property
    def wait_seconds(self) -> float:
        """MaxWait in seconds; the default's for a text that is not a duration."""
        return seconds_or(self.max_wait, SharedGroupSpec(group=self.group).max_wait)


class SharedGroupStatus(Resource, frozen=True, kw_only=True):
    """The status; `turn` is the highest that was ever given, and only grows.

    `holder_names` are the names of the holders as one text, for people: a column shows one value alone. `room_for` is the uid of the Model or GPULease for which holders were made to leave last, until it is granted its turn.
    """

    observed_generation: int = 0
    turn: int = 0
    node: str = ""
    devices: tuple[GroupDevice, ...] = ()
    holders: tuple[Holder, ...] = ()
    holder_names: str = ""
    room_for: str = ""
    held_mb: int | None = msgspec.field(name="heldMB", default=None)
    budget_mb: int | None = msgspec.field(name="budgetMB", default=None)
    conditions: tuple[Condition, ...] = ()


class SharedGroup(CustomResource, frozen=True, kw_only=True, omit_defaults=False):
    """One shared group of one namespace."""

    api_version: str = API_VERSION
    kind: str = GROUP_KIND
    spec: SharedGroupSpec
    status: SharedGroupStatus = SharedGroupStatus()

    @property
    def name(self) -> str:
        """The group's name, as Models name it."""
        return self.spec.group

    @property
    def counts(self) -> bool:
        """Whether its name is the one that is derived from the group's: any other object is ignored."""
        return self.metadata.name == object_name(self.spec.group)

    @property
    def initialized(self) -> bool:
        """Whether the arbiter has looked at Pods since this object was made: before that nothing is granted, started or stopped."""
        condition = self.condition(INITIALIZED)
        return self.counts and condition is not None and condition.true

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of that type, or None."""
        return conditions.find(self.status.conditions, kind)

    def holder(self, uid: str) -> Holder | None:
        """Return the entry of the uid of a Model or a GPULease, or None."""
        return next((holder for holder in self.status.holders if holder.uid == uid), None)


def is_turn(number: int, version: int) -> bool:
    """Return whether a number can be a turn of a group with this resourceVersion."""
    return 0 < number <= version + TURNS_AHEAD


def highest_turn(version: int, *numbers: int) -> int:
    """Return the highest turn that was seen, 0 if none was. Where one of the numbers cannot be a turn, that is the resourceVersion of the group at least."""
    turns = [number for number in numbers if is_turn(number, version)]
    strange = any(number > version + TURNS_AHEAD for number in numbers)
    return max([version, *turns] if strange else turns, default=0)


def object_name(group: str) -> str:
    """Return the name of a group's SharedGroup: the group's own if an object may have it, else a slug of it with a hash.

    Injective: a name that looks like a slug with a hash is hashed too.
    """
    return _kept_name(group) if len(group) <= _LONGEST_GROUP else _object_name(group)


@lru_cache(maxsize=1024)
def _kept_name(group: str) -> str:
    return _object_name(group)


def _object_name(group: str) -> str:
    if _OBJECT_NAME.fullmatch(group) and not _HASHED.search(group):
        return group
    slug = re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return f"{slug or 'group'}-{hashlib.sha256(group.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def group_key(namespace: str, group: str) -> str:
    """Return `namespace/name` of a group's SharedGroup."""
    return f"{namespace}/{object_name(group)}"
