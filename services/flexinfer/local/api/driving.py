"""Driving: lets the small controllers take their steps after every change of the store, in the process that holds it.

A controller listens to the store itself and remembers what it has to look at; `step` does it. Nothing here knows what they do.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from flexinfer.local.api.journal import JournalError
from flexinfer.local.api.store import Store

logger = logging.getLogger(__name__)
_AFTER_FAILURE_SECONDS = 1.0


class Controller(Protocol):
    """One controller."""

    def step(self) -> float | None:
        """Do what there is to do; returns after how many seconds to be asked again, None: at the next change."""
        ...


@contextlib.asynccontextmanager
async def driven(
    store: Store, controllers: Sequence[Controller], lost: Callable[[JournalError], None]
) -> AsyncIterator[None]:
    """Drive controllers as long as the block lasts; `lost` hears of a journal that cannot be written."""
    wake = asyncio.Event()
    wake.set()
    stop = store.observe(lambda _change: wake.set())
    task = asyncio.get_running_loop().create_task(_drive(controllers, wake, lost))
    try:
        yield
    finally:
        stop()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _drive(
    controllers: Sequence[Controller], wake: asyncio.Event, lost: Callable[[JournalError], None]
) -> None:
    pause: float | None = None
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake.wait()
        wake.clear()
        waits = [_step(controller, lost) for controller in controllers]
        pause = min((wait for wait in waits if wait is not None), default=None)


def _step(controller: Controller, lost: Callable[[JournalError], None]) -> float | None:
    try:
        return controller.step()
    except JournalError as error:
        lost(error)
        return None
    except Exception:
        logger.exception("%s failed", type(controller).__name__)
        return _AFTER_FAILURE_SECONDS
