"""What a controller is to whoever drives it: something that does one piece of work at a time, and says when there is none.

A simulation takes steps when it likes; the API's process takes them after each change. No controller waits or reads a clock.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from flexinfer.local.api.errors import ApiError

K = TypeVar("K", bound=Hashable)
_ENOUGH: Final = 100_000


class Controller(Protocol):
    """Reacts to what it was told of the store."""

    def step(self) -> bool:
        """Do one piece of work, if there is any; returns whether there was."""
        ...


class Work(Generic[K]):
    """Keys that need a look, each once, in the order in which they came up."""

    def __init__(self) -> None:
        self._line: deque[K] = deque()
        self._known: set[K] = set()

    def add(self, key: K) -> None:
        """Have a key looked at, unless it is to be looked at anyway."""
        if key not in self._known:
            self._known.add(key)
            self._line.append(key)

    def take(self) -> K | None:
        """Return the next key, None when there is none."""
        if not self._line:
            return None
        key = self._line.popleft()
        self._known.discard(key)
        return key


def run_until_quiet(controllers: Sequence[Controller]) -> int:
    """Take steps until no controller has work; returns how many were taken."""
    steps = 0
    while any(controller.step() for controller in controllers):
        steps += 1
        if steps > _ENOUGH:
            raise RuntimeError("controllers undo each other's work: no end after 100,000 rounds")
    return steps


def attempt(write: Callable[[], object]) -> bool:
    """Write what may have been overtaken; returns False when it was (the change that did so brings the key up again)."""
    try:
        write()
    except ApiError as error:
        if error.code in (404, 409):
            return False
        raise
    return True
