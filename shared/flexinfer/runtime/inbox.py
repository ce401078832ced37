"""What a control loop takes: deliveries of NATS, ends of effects, facts of companions, reads that confirm, and its election."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeAlias

import msgspec

from flexinfer.events.events import AnyEvent
from flexinfer.runtime.confirmation import Read
from flexinfer.runtime.controller import A, F
from flexinfer.runtime.runtime import Delivery
from flexinfer.state.actions import WriteStatus


class Started(msgspec.Struct, Generic[A], frozen=True):
    """An action that runs: the key that was decided on, and the key of the Model whose status it writes, if any."""

    key: str
    action: A | WriteStatus
    model: str


class Finished(msgspec.Struct, Generic[F], frozen=True):
    """An effect ended; `replies` is what it taught."""

    action_key: str
    model: str
    """Key of the Model whose status it wrote, else empty."""
    replies: Sequence[AnyEvent | F]


class Learned(msgspec.Struct, Generic[F], frozen=True):
    """A companion learned a fact."""

    fact: F
    at: float


class Elected(msgspec.Struct, frozen=True):
    """The replica is the leader from now on."""


Item: TypeAlias = Delivery | Finished[F] | Learned[F] | Read | Elected


class Inbox(Generic[F]):
    """The queue of one control loop."""

    def __init__(self) -> None:
        self._items: deque[Item[F]] = deque()
        self._awaited: asyncio.Future[None] | None = None

    def put(self, item: Item[F]) -> None:
        """Add an item. Never blocks."""
        self._items.append(item)
        self._wake()

    async def batch(self, wait: float | None) -> list[Item[F]]:
        """Return everything that has arrived, after at most `wait` seconds."""
        if wait == 0:
            await asyncio.sleep(0)
        elif not self._items:
            await self._arrival(wait)
        batch = [*self._items]
        self._items.clear()
        return batch

    async def _arrival(self, wait: float | None) -> None:
        """Return when an item arrives, or after `wait` seconds: by a timer, since a timeout would be a cancellation at each wait."""
        loop = asyncio.get_running_loop()
        self._awaited = loop.create_future()
        timer = loop.call_later(wait, self._wake) if wait is not None else None
        try:
            await self._awaited
        finally:
            self._awaited = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)
