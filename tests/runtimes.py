"""A Runtime for tests: working defaults for all parts that a test does not set."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from flexinfer.events.events import AnyEvent
from flexinfer.runtime.runtime import CaughtUp, Delivery, Runtime, Subscriptions
from flexinfer.runtime.settings import Settings

EPOCH = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class ListBus:
    """An in-memory bus: `published` records events, `queue` holds the deliveries; the first `lost` events are not stored."""

    def __init__(self, lost: int = 0) -> None:
        self.published: list[AnyEvent] = []
        self._lost = lost
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self.hinted: asyncio.Queue[AnyEvent] = asyncio.Queue()

    async def publish(self, event: AnyEvent) -> bool:
        """Record the event; tell whether it is stored."""
        self.published.append(event)
        return len(self.published) > self._lost

    async def hints(self, kind: str, name: str) -> AsyncIterator[AnyEvent]:
        """Yield the hints that a test put into `hinted`."""
        while True:
            yield await self.hinted.get()

    def catch_up(self) -> None:
        """Deliver a CaughtUp of now: nothing else waits."""
        self.queue.put_nowait(CaughtUp(asyncio.get_running_loop().time()))

    async def deliveries(self, subscriptions: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield the deliveries that a test put into `queue`."""
        while True:
            yield await self.queue.get()


def a_runtime(name: str = "placer", **parts: Any) -> Runtime:
    """Return a Runtime on the clock of the running event loop, with `parts` in place of the defaults."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[object]] = set()

    def spawn_background(work: Coroutine[Any, Any, object]) -> None:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    defaults: dict[str, Any] = {
        "settings": Settings(),
        "cluster": None,
        "bus": ListBus(),
        "clock": loop.time,
        "utc_now": lambda: EPOCH + timedelta(seconds=loop.time()),
        "sleep": asyncio.sleep,
        "random": lambda: 0.5,
        "set_ready": lambda _up: None,
        "spawn_background": spawn_background,
        "is_leader": lambda: True,
    }
    return Runtime(name=name, **(defaults | parts))
