"""Work queue: keys to sync, and what a controller is to the code that runs it.

client-go's workqueue without rate limits. A simulation calls `step` when it likes; the API server calls it after each change.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from localkube.apiserver.errors import ApiError

K = TypeVar("K", bound=Hashable)


class Controller(Protocol):
    """Reconciles objects of the store. It subscribes to changes itself."""

    def step(self) -> bool:
        """Do everything that can be done now; returns whether there was anything."""
        ...


class WorkQueue(Generic[K]):
    """Keys to sync, each at most once, in the order in which they were added."""

    def __init__(self) -> None:
        self._queue: deque[K] = deque()
        self._pending: set[K] = set()

    def add(self, key: K) -> None:
        """Add a key unless it is queued already."""
        if key not in self._pending:
            self._pending.add(key)
            self._queue.append(key)

    def drain(self, sync: Callable[[K], None]) -> bool:
        """Sync every key, including those that are added meanwhile; returns whether there were any."""
        had_work = bool(self._queue)
        while self._queue:
            key = self._queue.popleft()
            self._pending.discard(key)
            sync(key)
        return had_work


def try_write(write: Callable[[], object]) -> bool:
    """Call a write that may conflict; False on 404 and 409: the change that caused them queues the key again. Raises ApiError."""
    try:
        write()
    except ApiError as error:
        if error.code in (404, 409):
            return False
        raise
    return True
