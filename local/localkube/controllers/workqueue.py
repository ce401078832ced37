"""What a controller is to whoever drives it: something that, told to, does what there is to do, and then has nothing to do.

A simulation takes steps when it likes; the API's process takes them after each change. No controller here waits or reads a clock.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from localkube.apiserver.errors import ApiError

K = TypeVar("K", bound=Hashable)


class Controller(Protocol):
    """Reacts to what it was told of the store."""

    def step(self) -> bool:
        """Do all that there is to do now; returns whether there was anything."""
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

    def drain(self, look: Callable[[K], None]) -> bool:
        """Have every key looked at, those included that come up meanwhile; returns whether there was any."""
        found = bool(self._line)
        while self._line:
            key = self._line.popleft()
            self._known.discard(key)
            look(key)
        return found


def attempt(write: Callable[[], object]) -> bool:
    """Write what may have been overtaken; returns False when it was (the change that did so brings the key up again)."""
    try:
        write()
    except ApiError as error:
        if error.code in (404, 409):
            return False
        raise
    return True
