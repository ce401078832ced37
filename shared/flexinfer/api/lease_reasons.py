"""The reasons of the condition Granted of a GPULease, and what each means: one row each. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec


class LeaseReason(StrEnum):
    """The reasons that the arbiter writes."""

    GRANTED = "Granted"
    QUEUED = "Queued"
    BLOCKED = "Blocked"
    NO_DEVICES = "NoDevices"
    TOO_LARGE = "TooLarge"
    INVALID = "Invalid"
    EXPIRED = "Expired"
    RELEASED = "Released"


class LeaseFacts(msgspec.Struct, frozen=True):
    """What follows from a reason: its meaning, what a user can do, and whether it is the end of the lease."""

    meaning: str
    remedy: str = ""
    final: bool = False


LEASE_FACTS: Mapping[LeaseReason, LeaseFacts] = MappingProxyType(
    {
        LeaseReason.GRANTED: LeaseFacts("The memory is free and kept for the lease until status.expiresAt."),
        LeaseReason.QUEUED: LeaseFacts(
            "It waits for its turn; the message has its position, the holders, and who must leave or until when they stay. Without telemetry of its GPUs it waits without a deadline, and the message has the exits."
        ),
        LeaseReason.BLOCKED: LeaseFacts(
            "It waits, and the memory of a holder that has left is not free, or another SharedGroup has the name of the group's; the message says which.",
            "do what the message says",
        ),
        LeaseReason.NO_DEVICES: LeaseFacts(
            "Which GPUs the group has is not known: none of its Models has been placed on a node.",
            "apply a Model with spec.gpu.shared of this group, or correct spec.group",
        ),
        LeaseReason.TOO_LARGE: LeaseFacts(
            "A GPU of the group has less than spec.memoryMB in all, or less beyond the group's spec.reserveMB; the message has the figures.",
            "delete the lease and take one of less memory, or lower spec.reserveMB of the SharedGroup",
        ),
        LeaseReason.INVALID: LeaseFacts(
            "The spec breaks a rule that the API server did not apply; the message names it.",
            "delete the lease and take another",
        ),
        LeaseReason.EXPIRED: LeaseFacts(
            "Its time is over. The memory goes back to the group once its processes have ended; none of them is killed.",
            "end its processes; take another lease to continue",
            final=True,
        ),
        LeaseReason.RELEASED: LeaseFacts(
            "It had to give the GPUs back before its time was over; the message says why.",
            "end its processes; take another lease to continue",
            final=True,
        ),
    }
)
ENDED = frozenset(reason for reason, facts in LEASE_FACTS.items() if facts.final)
"""The reasons with which a lease is over."""
