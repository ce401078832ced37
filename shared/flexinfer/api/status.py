"""Status as its owners write it: one struct an owner, its condition and its fields of `Model.status`. Pure.

A contract test keeps the fields equal to those in the table of components (`api.services`).
"""

import msgspec

from flexinfer.api.base import Resource
from flexinfer.api.conditions import Condition
from flexinfer.api.model import BackendStatus, CacheStatus, GroupMembership, Placement


class MonotonicTime(msgspec.Struct, frozen=True):
    """A point in time in seconds of the component's monotonic clock.

    A status write turns it into wall-clock time.
    """

    at: float


class OwnedStatus(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """What one owner writes: always its condition and its full set of fields."""

    condition: Condition


class AcceptedStatus(OwnedStatus, frozen=True, kw_only=True):
    """The watcher's status."""

    phase: str
    observed_generation: int
    message: str


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
