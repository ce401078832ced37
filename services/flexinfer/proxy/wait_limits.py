"""Waits: what a request may wait for, and how much of each limit it has left. Pure.

Each limit counts only the time that is spent on that wait: a request that has queued behind others for minutes still has its
whole coldStartTimeout when the engine is then stopped.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from enum import Enum


class Wait(Enum):
    """What a request waits for."""

    COLD_START = "until the Model is ready"
    SLOT = "until a ready Model has a slot"


class Waits:
    """The limits of one request and what it has spent of each, in seconds."""

    def __init__(self, limits: Mapping[Wait, float]) -> None:
        self._limits = limits
        self.spent = dict.fromkeys(Wait, 0.0)

    def left(self, wait: Wait) -> float:
        """Return how much longer the request may wait for this, in seconds."""
        return max(0.0, self._limits[wait] - self.spent[wait])

    @contextlib.contextmanager
    def spending(self, wait: Wait, clock: Callable[[], float]) -> Iterator[None]:
        """Count the time that the block takes as spent on this wait."""
        began = clock()
        try:
            yield
        finally:
            self.spent[wait] += clock() - began
