"""Manager: calls the controllers after every change of the store, in the process that holds it.

kube-controller-manager without leader election. A controller subscribes to the store itself and queues what it has to sync; `step` does
it. A controller that fails is logged and called again after a second.
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
class HasDeadline(Protocol):
    """A controller that has something to do at a certain time, without a change of the store."""

    def next_deadline(self) -> datetime | None:
        """Return that time; None: only after the next change."""
        ...


@contextlib.asynccontextmanager
async def run_controllers(
    store: Store,
    controllers: Sequence[Controller],
    now: Callable[[], datetime],
) -> AsyncIterator[None]:
    """Run the controllers inside the block. While the journal cannot be written, each is called again after a second."""
    change = asyncio.Event()
    change.set()
    stop = store.observe(lambda _change: change.set())
    task = asyncio.get_running_loop().create_task(_ControllerLoop(controllers, now).run(change))
    try:
        yield
    finally:
        stop()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _ControllerLoop:
    def __init__(
        self,
        controllers: Sequence[Controller],
        now: Callable[[], datetime],
    ) -> None:
        self._controllers = controllers
        self._now = now
        self._failed = False

    async def run(self, change: asyncio.Event) -> None:
        timeout: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await change.wait()
            change.clear()
            self._failed = False
            if self._step_all():
                change.set()
                await asyncio.sleep(0)  # let requests run in between
                continue
            timeout = self._time_to_deadline()

    def _step_all(self) -> bool:
        """Step every controller; returns whether one had something to do."""
        results = [self._step(controller) for controller in self._controllers]
        return any(results)

    def _step(self, controller: Controller) -> bool:
        try:
            return controller.step()
        except JournalError as error:
            self._failed = True
            logger.warning("%s: %s", type(controller).__name__, error)
        except Exception:
            self._failed = True
            logger.exception("%s failed", type(controller).__name__)
        return False

    def _time_to_deadline(self) -> float | None:
        times = [
            controller.next_deadline()
            for controller in self._controllers
            if isinstance(controller, HasDeadline)
        ]
        now = self._now()
        waits = [max(0.0, (time - now).total_seconds()) for time in times if time is not None]
        return min([*waits, _AFTER_FAILURE_SECONDS] if self._failed else waits, default=None)
