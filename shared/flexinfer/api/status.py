"""Status as its owners write it: one struct an owner, its condition and its fields of `Model.status`. Pure.

A contract test keeps the fields equal to those in the table of components (`api.services`).
"""

from collections.abc import Callable, Mapping
from typing import Self

import msgspec

from flexinfer.api.base import Resource
from flexinfer.api.conditions import STALLED, Condition
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, CacheStatus
from flexinfer.api.placement import Placement


class MonotonicTime(msgspec.Struct, frozen=True):
    """A point in time in seconds of the component's monotonic clock.

    A status write turns it into wall-clock time.
    """

    at: float


class OwnedStatus(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """What one owner writes: always its condition and its full set of fields."""

    condition: Condition

    @property
    def conditions(self) -> Mapping[str, Condition | None]:
        """Every condition type of this owner, and its condition; None: there is to be none."""
        return {self.condition.type: self.condition}

    def timed(self, wall: Callable[[float], str]) -> Self:
        """Return the status with the times within its fields, by what turns monotonic seconds into wall-clock time."""
        del wall
        return self


class AcceptedStatus(OwnedStatus, frozen=True, kw_only=True):
    """The watcher's status; `stalled` is the condition Stalled, None while something may still happen by itself."""

    phase: str
    observed_generation: int
    reason: str
    message: str
    stalled: Condition | None

    @property
    def conditions(self) -> Mapping[str, Condition | None]:
        """Accepted and Stalled."""
        return {self.condition.type: self.condition, STALLED: self.stalled}


CONDITION_FIELDS = frozenset({"condition", "stalled"})
"""Fields of these structs that are conditions."""
OTHER_FIELDS = CONDITION_FIELDS | {"expected_at"}
"""Those that are not fields of `Model.status` of their own; all others are."""


class PlacedStatus(OwnedStatus, frozen=True, kw_only=True):
    """The placer's status."""

    placement: Placement | None


class CachedStatus(OwnedStatus, frozen=True, kw_only=True):
    """The prefetcher's status."""

    cache: CacheStatus


class WantedStatus(OwnedStatus, frozen=True, kw_only=True):
    """The reaper's status; `last_active_time` as it was (RFC 3339), or a newer time."""

    last_active_time: MonotonicTime | str | None


class GrantedStatus(OwnedStatus, frozen=True, kw_only=True):
    """The arbiter's status; no shared group: None. `expected_at` becomes its `expected_time`: monotonic seconds, None if it is not known."""

    shared_group: GroupMembership | None
    expected_at: float | None = None

    def timed(self, wall: Callable[[float], str]) -> Self:
        """Return the status with its expected time."""
        if self.expected_at is None or self.shared_group is None:
            return self
        shared_group = msgspec.structs.replace(self.shared_group, expected_time=wall(self.expected_at))
        return msgspec.structs.replace(self, shared_group=shared_group)


class ReadyStatus(OwnedStatus, frozen=True, kw_only=True):
    """The launcher's status."""

    endpoint: str
    backend: BackendStatus
