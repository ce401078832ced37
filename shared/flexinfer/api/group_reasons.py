"""The reasons of a SharedGroup's conditions, and what each means: one row each. Pure.

Those of a Model's conditions are in `api.reasons`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from flexinfer.api.conditions import ACCEPTED
from flexinfer.api.sharedgroup import BLOCKED, INITIALIZED


class GroupReason(StrEnum):
    """The reasons that the arbiter writes."""

    ACCEPTED = "Accepted"
    WRONG_NAME = "WrongName"
    INITIALIZED = "Initialized"
    NOT_BLOCKED = "NotBlocked"
    NOT_STOPPED = "NotStopped"
    MEMORY_IN_USE = "MemoryInUse"
    DEVICE_MISSING = "DeviceMissing"
    DEVICE_UNHEALTHY = "DeviceUnhealthy"
    TELEMETRY_SILENT = "TelemetrySilent"


class GroupFacts(msgspec.Struct, frozen=True):
    """What follows from a reason: the condition that it is written for, its meaning, and what a user can do."""

    condition: str
    meaning: str
    remedy: str = ""


GROUP_FACTS: Mapping[GroupReason, GroupFacts] = MappingProxyType(
    {
        GroupReason.ACCEPTED: GroupFacts(
            ACCEPTED, "This is the object in which the devices of the group are given out."
        ),
        GroupReason.WRONG_NAME: GroupFacts(
            ACCEPTED,
            "The object's name is not the one that is derived from spec.group, so it is ignored.",
            "delete it; the arbiter makes the object of each group that a Model names",
        ),
        GroupReason.INITIALIZED: GroupFacts(
            INITIALIZED,
            "The arbiter has looked at the Pods of the group's Models since this object was made.",
        ),
        GroupReason.NOT_BLOCKED: GroupFacts(BLOCKED, "Nothing keeps the devices from being released."),
        GroupReason.NOT_STOPPED: GroupFacts(
            BLOCKED,
            "The Pod of a holder that must leave did not end in time; the message names Pod and node.",
            "see why the Pod does not end: kubectl describe pod",
        ),
        GroupReason.MEMORY_IN_USE: GroupFacts(
            BLOCKED,
            "The memory of a stopped holder did not become free in time; the message names the processes.",
            "end the processes that use the device",
        ),
        GroupReason.DEVICE_MISSING: GroupFacts(
            BLOCKED,
            "A device of a stopped holder is no longer reported by its node, so its memory is unknown.",
            "restart the node, or delete it: kubectl delete node",
        ),
        GroupReason.DEVICE_UNHEALTHY: GroupFacts(
            BLOCKED,
            "A device of a stopped holder is not healthy, so its memory is unknown.",
            "reset the device or restart the node",
        ),
        GroupReason.TELEMETRY_SILENT: GroupFacts(
            BLOCKED,
            "The node of a stopped holder no longer sends telemetry, so its memory is unknown.",
            "start the agent on that node again",
        ),
    }
)
