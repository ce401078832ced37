"""GPULease: a person's turn in a shared group, for a process that FlexInfer neither starts nor ends. Pure.

The CRD in `crds/gpuleases.yaml` is the public schema; a contract test keeps these structs equal to it. People write the spec, the arbiter
alone the status.
"""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.base import Resource
from flexinfer.api.conditions import Condition
from flexinfer.api.durations import seconds, seconds_or
from flexinfer.api.groupversion import API_VERSION, LEASE_KIND
from flexinfer.api.lease_reasons import ENDED
from flexinfer.api.metadata import CustomResource
from flexinfer.api.moments import moment, stamp
from flexinfer.api.sharedgroup import HeldDevice

LONGEST = "168h"
"""The longest `spec.duration`."""
HIGHEST_PRIORITY, LARGEST_MB, LONGEST_GROUP = 1000, 4_194_304, 63


class GPULeaseSpec(Resource, frozen=True, kw_only=True):
    """The spec: of which group, how much of each of its devices (MiB; None: all that is left of them), how long, and what for."""

    group: str
    memory_mb: int | None = msgspec.field(name="memoryMB", default=None)
    priority: int = 1000
    duration: str = "2h"
    reason: str = ""

    @property
    def seconds(self) -> float:
        """Duration in seconds; the default's for a text that is not a duration."""
        return seconds_or(self.duration, GPULeaseSpec(group=self.group).duration)


class GPULeaseStatus(Resource, frozen=True, kw_only=True):
    """The status. `since` and `expires_at` are wall-clock times, RFC 3339; `shared_group` is the uid of the SharedGroup that it was written for."""

    observed_generation: int = 0
    position: int = 0
    turn: int = 0
    shared_group: str = ""
    node: str = ""
    devices: tuple[HeldDevice, ...] = ()
    since: str = ""
    expires_at: str = ""
    conditions: tuple[Condition, ...] = ()


class GPULease(CustomResource, frozen=True, kw_only=True, omit_defaults=False):
    """One lease of one namespace."""

    api_version: str = API_VERSION
    kind: str = LEASE_KIND
    spec: GPULeaseSpec
    status: GPULeaseStatus = GPULeaseStatus()

    @property
    def granted(self) -> bool:
        """Whether its status says that its owner may use the devices."""
        condition = self.condition()
        return condition is not None and condition.true

    @property
    def ended(self) -> bool:
        """Whether its one turn is over, by its status: it is never granted again."""
        condition = self.condition()
        return condition is not None and not condition.true and condition.reason in ENDED

    def condition(self) -> Condition | None:
        """Return the condition Granted, or None."""
        return conditions.find(self.status.conditions, conditions.GRANTED)


def problem(spec: GPULeaseSpec) -> str:
    """Return why a lease is refused that the API server has let through, as one of an older CRD; empty if it is not.

    The rules of the CRD. What is immutable cannot be seen here.
    """
    if not 0 < len(spec.group) <= LONGEST_GROUP:
        return f"spec.group must have 1 to {LONGEST_GROUP} characters"
    if spec.memory_mb is not None and not 0 < spec.memory_mb <= LARGEST_MB:
        return f"spec.memoryMB must be between 1 and {LARGEST_MB}, or absent for the whole of the GPUs"
    if not 0 <= spec.priority <= HIGHEST_PRIORITY:
        return f"spec.priority must be between 0 and {HIGHEST_PRIORITY}"
    try:
        long = not 0 < seconds(spec.duration) <= seconds(LONGEST)
    except ValueError as error:
        return f"spec.duration: {error}"
    return f"spec.duration must be between 1s and {LONGEST}" if long else ""


def expiry(since: str, spec: GPULeaseSpec) -> str:
    """Return when a lease ends that was granted at `since`; empty for no time."""
    began = moment(since)
    return stamp(began + round(spec.seconds)) if began is not None else ""
