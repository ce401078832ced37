"""Engines: processes as records, and how those of a history behave."""

import asyncio

import msgspec

UNKNOWN_MB = 3000
"""What an engine uses whose Model states no estimate."""


class Engine(msgspec.Struct):
    """One process.

    It uses `used_mb` of memory from `started` until `freed`, where its Model estimates `estimate_mb`, both in equal parts on all its `devices`; it answers
    while `healthy`, hangs while `stuck`, and has `ended`.
    """

    pod: str
    model: str
    holder: tuple[str, str]
    """The uid of the Model and the turn: the holder of a group may restart within its turn."""
    group: str
    node: str
    address: str
    devices: tuple[str, ...] = ()
    estimate_mb: int | None = None
    used_mb: int = UNKNOWN_MB
    started: bool = False
    stopping: bool = False
    healthy: bool = False
    stuck: bool = False
    ended: bool = False
    freed: bool = False
    restarts: int = 0
    requests: dict[str, float] = msgspec.field(default_factory=dict)
    """Number of a request -> since when the engine has it."""
    gone: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def holds_memory(self) -> bool:
        """Whether it uses memory of its devices."""
        return bool(self.group) and self.started and not self.freed

    def used_on(self, device: str) -> int:
        """Return what it uses of a device while it holds memory."""
        return part(self.used_mb, len(self.devices)) if device in self.devices else 0

    def expected_on(self, device: str) -> int:
        """Return what it is expected to use of a device: its part of the estimate, unless it uses less or there is none."""
        if device not in self.devices or self.estimate_mb is None:
            return self.used_on(device)
        return min(self.used_on(device), part(self.estimate_mb, len(self.devices)))


def part(memory_mb: int, devices: int) -> int:
    """Return the part of memory that is on each of so many devices."""
    return -(-memory_mb // devices)


class Behaviour(msgspec.Struct):
    """How engines of this history behave, in seconds; `dies` and `hangs` are probabilities.

    `never_ready` are keys of Models whose engines never answer, `stops_hard` those that ignore SIGTERM.
    """

    starts: float = 0.2
    loads: float = 2.0
    stops: float = 1.5
    frees: float = 1.0
    dies: float = 0.0
    hangs: float = 0.0
    never_ready: frozenset[str] = frozenset()
    ignores_sigterm: frozenset[str] = frozenset()
    grows: float = 0.0
    """The probability that an engine uses more than its Model estimates."""
