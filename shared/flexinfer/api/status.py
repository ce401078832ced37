"""Status as its owners write it: one struct an owner, its condition and its fields of `Model.status`. Pure.

A contract test keeps the fields equal to those in the table of components (`api.services`).
"""

from collections.abc import Mapping

import msgspec

from flexinfer.api.base import Resource
from flexinfer.api.conditions import STALLED, Condition
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, CacheStatus, Placement


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
"""Fields of these structs that are conditions; all others are fields of `Model.status`."""


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
    """The arbiter's status; no shared group: None."""

    shared_group: GroupMembership | None


class ReadyStatus(OwnedStatus, frozen=True, kw_only=True):
    """The launcher's status."""

    endpoint: str
    backend: BackendStatus
