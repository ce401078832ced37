"""Driving: lets the small controllers take their steps after every change of the store, in the process that holds it.

A controller listens to the store itself and remembers what it has to look at; `step` does it. Nothing here knows what they do.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from localkube.apiserver.journal import JournalError
from localkube.apiserver.store import Store
from localkube.controllers.workqueue import Controller

logger = logging.getLogger(__name__)
_AFTER_FAILURE_SECONDS = 1.0


@runtime_checkable
class Timed(Protocol):
    """A controller that has to look again at a time of its own."""

    def next_deadline(self) -> datetime | None:
        """Return when, None: after the next change."""
        ...


@contextlib.asynccontextmanager
async def driven(
    store: Store,
    controllers: Sequence[Controller],
    now: Callable[[], datetime],
    lost: Callable[[JournalError], None],
) -> AsyncIterator[None]:
    """Drive controllers as long as the block lasts; `lost` hears of a journal that cannot be written."""
    wake = asyncio.Event()
    wake.set()
    stop = store.observe(lambda _change: wake.set())
    task = asyncio.get_running_loop().create_task(_Driver(controllers, now, lost).run(wake))
    try:
        yield
    finally:
        stop()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Driver:
    def __init__(
        self,
        controllers: Sequence[Controller],
        now: Callable[[], datetime],
        lost: Callable[[JournalError], None],
    ) -> None:
        self._controllers = controllers
        self._now = now
        self._lost = lost
        self._failed = False

    async def run(self, wake: asyncio.Event) -> None:
        pause: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await wake.wait()
            wake.clear()
            self._failed = False
            if self._round():
                wake.set()
                await asyncio.sleep(0)  # requests have their turn
                continue
            pause = self._pause()

    def _round(self) -> bool:
        """Have every controller take a step; returns whether one had something to do."""
        worked = [self._step(controller) for controller in self._controllers]
        return any(worked)

    def _step(self, controller: Controller) -> bool:
        try:
            return controller.step()
        except JournalError as error:
            self._lost(error)
        except Exception:
            self._failed = True
            logger.exception("%s failed", type(controller).__name__)
        return False

    def _pause(self) -> float | None:
        times = [known.next_deadline() for known in self._controllers if isinstance(known, Timed)]
        now = self._now()
        waits = [max(0.0, (time - now).total_seconds()) for time in times if time is not None]
        return min([*waits, _AFTER_FAILURE_SECONDS] if self._failed else waits, default=None)
