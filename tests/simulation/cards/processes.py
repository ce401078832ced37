"""The processes that use memory of cards, and what telemetry showed of them."""

import msgspec


class Process(msgspec.Struct, kw_only=True):
    """A process, or memory that is not given back yet; `mb` is of each card, `counted_mb` what is expected of it.

    `owner` is the Model or lease; empty for a game that belongs to none. `listed`: telemetry shows it as a process. `sampled_at` is when the
    sample was taken by which the owner was granted its turn: a game that began later is not the arbiter's fault.
    """

    cards: tuple[str, ...]
    mb: int
    counted_mb: int
    owner: str = ""
    pod_uid: str = ""
    listed: bool = True
    alone: bool = False
    began: float = 0.0
    sampled_at: float = 0.0


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What the last sample showed of a process on a card, and whose it is."""

    uuid: str
    owner: str
    mb: int
    began: float


def expected_mb(process: Process) -> int:
    """Return what is expected of a process: all that is counted for it while it lives, also while it still loads."""
    return process.counted_mb if process.listed else min(process.mb, process.counted_mb)
