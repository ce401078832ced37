"""When does time alone alter a decision? A clock that notes what it is compared with tells.

A random moment rarely falls between the one at which a decision changes and the one for which it asked. What a decision does with the
time is compare it, so the moments at which a comparison comes out otherwise are the only ones at which it can change.
"""

import heapq
import math
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_BESIDE = 1e-6
"""Seconds before and after a moment at which a decision is made too: sums of floats are rounded."""
_UNTIL = 10_000.0
"""How far the clock is followed, in seconds; later moments are those of years."""
_MOST_MOMENTS = 200


class WatchedTime(float):
    """A time `slope * now + offset`, which notes each moment at which one of its comparisons would come out otherwise."""

    slope: float
    offset: float
    now: float
    moments: set[float]

    def __new__(cls, value: float, *, now: float, slope: float, offset: float, moments: set[float]) -> Any:
        """Return a time of this value."""
        made = super().__new__(cls, value)
        made.slope, made.offset, made.now, made.moments = slope, offset, now, moments
        return made

    @classmethod
    def at(cls, now: float) -> "WatchedTime":
        """Return a time that is now."""
        watched: WatchedTime = cls(now, now=now, slope=1.0, offset=0.0, moments=set())
        return watched

    def _moved(self, value: float, slope: float, offset: float) -> "WatchedTime":
        moved: WatchedTime = WatchedTime(
            value, now=self.now, slope=slope, offset=offset, moments=self.moments
        )
        return moved

    def _sum(self, other: Any, sign: float) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        value = float(self) + sign * float(other)
        slope = self.slope + sign * getattr(other, "slope", 0.0)
        offset = self.offset + sign * getattr(other, "offset", float(other))
        return self._moved(value, slope, offset) if slope else value

    def __add__(self, other: Any) -> Any:
        return self._sum(other, 1.0)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._sum(other, -1.0)

    def __rsub__(self, other: Any) -> Any:
        return (-self)._sum(other, 1.0)

    def __neg__(self) -> "WatchedTime":
        return self._moved(-float(self), -self.slope, -self.offset)

    def _note(self, other: Any) -> None:
        """Note when this and another time or number are the same."""
        if isinstance(other, (int, float)):
            slope = self.slope - getattr(other, "slope", 0.0)
            at = (getattr(other, "offset", float(other)) - self.offset) / slope if slope else math.inf
            self.moments.update([at] if math.isfinite(at) else [])

    def _note_steps(self) -> None:
        """Note when this, as people or a message have it, is another: in whole seconds or minutes."""
        self.moments.update(self.now + step for step in (0.6, 1.0, 61.0))

    def __lt__(self, other: Any) -> bool:
        self._note(other)
        return super().__lt__(other)

    def __le__(self, other: Any) -> bool:
        self._note(other)
        return super().__le__(other)

    def __gt__(self, other: Any) -> bool:
        self._note(other)
        return super().__gt__(other)

    def __ge__(self, other: Any) -> bool:
        self._note(other)
        return super().__ge__(other)

    def __eq__(self, other: object) -> bool:
        self._note(other)
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        self._note(other)
        return super().__ne__(other)

    __hash__ = float.__hash__

    def __format__(self, spec: str) -> str:
        self._note_steps()
        return super().__format__(spec)

    def __round__(self, digits: Any = None) -> Any:
        self._note_steps()
        return super().__round__(digits)

    def __int__(self) -> int:
        self._note_steps()
        return super().__int__()


def altered_at(decide: Callable[[float], T], now: float, until: float) -> float | None:
    """Return the first moment before `until` at which time alone alters a decision; None if there is none."""
    started = WatchedTime.at(now)
    expected = decide(started)
    pending, tried = [*started.moments], set[float]()
    heapq.heapify(pending)
    while pending and len(tried) < _MOST_MOMENTS:
        moment = heapq.heappop(pending)
        for at in (moment - _BESIDE, moment, moment + _BESIDE):
            if at in tried or not now < at < min(until, now + _UNTIL):
                continue
            tried.add(at)
            watched = WatchedTime.at(at)
            if decide(watched) != expected:
                return at
            for later in watched.moments - tried:
                heapq.heappush(pending, later)
    return None
