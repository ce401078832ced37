"""The agenda of a replay: what happens next in virtual time. Pure."""

import heapq
from typing import TypeAlias

import msgspec

from flexinfer.cli.replay.trace import Request


class Arrived(msgspec.Struct, frozen=True):
    """A request arrives."""

    request: Request


class Answered(msgspec.Struct, frozen=True):
    """A request is answered by the engine of a Pod."""

    model: str
    pod_uid: str
    number: int


class Loaded(msgspec.Struct, frozen=True):
    """The engine of a Pod has loaded its weights."""

    model: str
    pod_uid: str


class DrainEnded(msgspec.Struct, frozen=True):
    """The deadline by which the requests of a leaving engine are complete."""

    model: str
    pod_uid: str


class PodGone(msgspec.Struct, frozen=True):
    """The process of an engine has ended; its memory is not back yet."""

    model: str
    pod_uid: str


class MemoryFreed(msgspec.Struct, frozen=True):
    """The driver has given back the memory of a Pod."""

    pod_uid: str


class Sampled(msgspec.Struct, frozen=True):
    """The agent reads the card and has something to publish."""


Happening: TypeAlias = Arrived | Answered | Loaded | DrainEnded | PodGone | MemoryFreed | Sampled


class Agenda:
    """What will happen, in the order of its time; of one time, in the order in which it was entered."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Happening]] = []
        self._number = 0

    def enter(self, at: float, happening: Happening) -> None:
        """Enter what happens at a time."""
        self._number += 1
        heapq.heappush(self._entries, (at, self._number, happening))

    @property
    def next_at(self) -> float | None:
        """When something happens next; None if nothing does."""
        return self._entries[0][0] if self._entries else None

    def take(self) -> Happening:
        """Return what happens next, and strike it off. Raises IndexError if nothing does."""
        return heapq.heappop(self._entries)[2]
