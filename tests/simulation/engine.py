"""Engines: processes as records, and how those of a history behave."""

import asyncio

import msgspec

UNKNOWN_MB = 3000
"""What an engine uses whose Model states no estimate."""


class Engine(msgspec.Struct):
    """One process.

    It uses `used_mb` of memory from `started` until `freed`, where its Model estimates `estimate_mb`, answers while `healthy`, hangs while `stuck`, and has `ended`.
    """

    pod: str
    model: str
    holder: tuple[str, str]
    """The uid of the Model and the turn: the holder of a group may restart within its turn."""
    group: str
    node: str
    address: str
    estimate_mb: int | None = None
    used_mb: int = UNKNOWN_MB
    started: bool = False
    stopping: bool = False
    healthy: bool = False
    stuck: bool = False
    ended: bool = False
    freed: bool = False
    requests: dict[str, float] = msgspec.field(default_factory=dict)
    """Number of a request -> since when the engine has it."""
    gone: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def holds_memory(self) -> bool:
        """Whether it uses memory of its device."""
        return bool(self.group) and self.started and not self.freed


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
