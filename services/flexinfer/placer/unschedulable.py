"""Unschedulable: why a Model cannot have a node or a device, and what would help. Pure."""

import enum
from collections.abc import Iterable

import msgspec

_MEBI = 1000 * 2**20


class Rank(enum.IntEnum):
    """How near a node came to fitting: the remedy that a user reads is that of the highest."""

    NODE_DOWN = 0
    TAINT = 1
    LABEL = 2
    TOO_FEW_DEVICES = 3
    INCOMPATIBLE = 4
    TOO_SMALL = 5
    SILENT = 6
    IN_USE = 7
    MEMORY_IN_USE = 8


class Unschedulable(msgspec.Struct, frozen=True):
    """Why a node or device cannot run a Model, as the rest of a sentence about it, and what would help.

    `missing` is the memory that it lacks, in MiB, and `missing_devices` how many devices; 0 where that is not what it lacks.
    """

    message: str
    remedy: str
    rank: Rank
    missing: int = 0
    missing_devices: int = 0


def nearest(reasons: Iterable[Unschedulable]) -> Unschedulable:
    """Return the reason of the highest rank, and of those the one that lacks the least memory, then the fewest devices. Raises ValueError if there is none."""
    return max(reasons, key=lambda reason: (reason.rank, -reason.missing, -reason.missing_devices))


def amount_text(name: str, thousandths: int) -> str:
    """Return an amount as Kubernetes writes it: `2048Mi`, `1.5`."""
    if name in ("memory", "ephemeral-storage"):
        return f"{thousandths / _MEBI:.0f}Mi"
    return f"{thousandths / 1000:g}"
