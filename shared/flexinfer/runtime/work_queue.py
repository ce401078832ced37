"""The work queue of a control loop: which keys are to be decided on, what runs, and when what is tried again.

A key is dirty from the moment that something touched it until it is decided on. An action is keyed too: of equal
keys one runs at a time, and a decision that yields another meanwhile is made again when that one has ended. Equal
actions in a row are tried ever less often: an effect that changes nothing must not become a storm.
"""

import heapq
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from flexinfer.api.durations import back_off
from flexinfer.state.actions import Action

A = TypeVar("A", bound=Action)
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.05, 10.0
"""Seconds between equal actions of a key, doubling."""
FAILURE_BACK_OFF = 1.0
"""Seconds before the second attempt of a key whose decision or effect raised an error that is not the API's."""
LONGEST_FAILURE_BACK_OFF = 60.0


def failure_back_off(failures: int) -> float:
    """Return the seconds before another attempt after so many failures in a row."""
    return back_off(FAILURE_BACK_OFF, failures - 1, LONGEST_FAILURE_BACK_OFF)


class Attempt(msgspec.Struct, Generic[A]):
    """What was last performed for an action's key, how often in a row, and when its back-off ends."""

    action: A
    repeats: int = 0
    until: float = 0.0


class WorkQueue(Generic[A]):
    """The keys of one control loop; times are monotonic seconds."""

    def __init__(self) -> None:
        self._dirty: dict[str, None] = {}
        self._due: dict[str, float] = {}  # key -> when it is to be decided on
        self._heap: list[tuple[float, str]] = []  # may hold times that no longer count
        self._busy: dict[str, set[str]] = {}  # key of the running action -> keys to decide on when it ends
        self._attempts: dict[str, dict[str, Attempt[A]]] = {}  # key -> key of the action -> its last attempt
        self._failures: dict[str, int] = {}

    def touch(self, keys: Iterable[str]) -> None:
        """Make keys dirty."""
        for key in keys:
            self._dirty[key] = None

    def pop(self, now: float) -> str | None:
        """Return a key to decide on now; None if there is none."""
        self._wake(now)
        while self._dirty:
            key = next(iter(self._dirty))
            del self._dirty[key]
            if key not in self._busy:
                self._due.pop(key, None)
                return key
            self._busy[key].add(key)
        return None

    def _wake(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self._dirty[key] = None

    def wait(self, key: str, at: float) -> None:
        """Decide on a key at a time, unless it is decided on before."""
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))

    def next_due(self) -> float | None:
        """Return when the next key is to be decided on; None if none waits for a time."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def start(self, key: str, action: A, now: float) -> Attempt[A] | None:
        """Return the attempt of an action that may run now, else None: its key is decided on again when it may."""
        if action.key in self._busy:
            self._busy[action.key].add(key)
            return None
        attempts = self._attempts.setdefault(key, {})
        attempt = attempts.get(action.key)
        if attempt is None or attempt.action != action:
            attempt = attempts[action.key] = Attempt(action)
        elif now < attempt.until:
            self.wait(key, attempt.until)
            return None
        else:
            attempt.repeats += 1
        attempt.until = now + back_off(FIRST_BACK_OFF, attempt.repeats, LONGEST_BACK_OFF)
        self._busy[action.key] = {key}
        return attempt

    def finish(self, action_key: str) -> None:
        """End an action: the keys that waited for it are dirty."""
        self.touch(sorted(self._busy.pop(action_key, ())))

    def failed(self, key: str, now: float) -> float:
        """Count a failure of a key; returns until when it is left alone."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return now + failure_back_off(failures)

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)

    def forget(self, key: str) -> None:
        """Drop what is remembered of the attempts of a key that is gone."""
        self._failures.pop(key, None)
        self._attempts.pop(key, None)
