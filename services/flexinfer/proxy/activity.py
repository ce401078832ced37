"""Activity: what the door tells of its traffic, and when.

When in flight plus waiting leaves or reaches zero (at most once a second a Model, the last state wins), and every 5 s while it is above zero or a
request ended since.
"""

import asyncio
import contextlib

import msgspec

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.proxy.breaker import Breaker
from flexinfer.runtime.runtime import Runtime

HEARTBEAT_SECONDS, SHORTEST_SECONDS = 5.0, 1.0


class _Traffic(msgspec.Struct):
    model: Model
    breaker: Breaker
    last: float
    told_at: float = -1e9
    busy: bool = False
    news: bool = False
    owed: bool = False


class Ledger:
    """Traffic of every Model that was asked, by uid."""

    def __init__(self, runtime: Runtime, proxy: str) -> None:
        self._runtime, self._proxy = runtime, proxy
        self._traffic: dict[str, _Traffic] = {}
        self._wanted = asyncio.Event()

    def touch(self, model: Model, breaker: Breaker) -> None:
        """Note that a request of this Model came, moved on or ended."""
        now = self._runtime.clock()
        known = self._traffic.get(model.uid)
        if known is None:
            known = self._traffic[model.uid] = _Traffic(model, breaker, now)
        known.last = now
        busy = bool(breaker.in_flight or breaker.waiting)
        known.news = True
        if busy != known.busy:
            self._wanted.set()

    def answer(self, model: Model, breaker: Breaker) -> None:
        """Tell at once what is under way of a Model that has begun to stop: it waits for our word."""
        known = self._traffic.setdefault(model.uid, _Traffic(model, breaker, self._runtime.clock()))
        known.owed = True
        self._wanted.set()

    async def keep(self) -> None:
        """Tell, for ever."""
        beat = self._runtime.clock()
        await self._runtime.bus.publish(events.ProxyObserved(proxy=self._proxy))
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until(beat) - self._runtime.clock()):
                    await self._wanted.wait()
            self._wanted.clear()
            now = self._runtime.clock()
            beating = now >= beat + HEARTBEAT_SECONDS
            if beating:
                beat = now
                await self._runtime.bus.publish(events.ProxyObserved(proxy=self._proxy))
            for traffic in tuple(self._traffic.values()):
                await self._tell(traffic, now, beating=beating)
            self._traffic = {
                u: t for u, t in self._traffic.items() if t.news or t.breaker.in_flight or t.breaker.waiting
            }

    def _until(self, beat: float) -> float:
        """Return when there is something to tell at the latest."""
        turning = [
            t.told_at + SHORTEST_SECONDS
            for t in self._traffic.values()
            if t.news and bool(t.breaker.in_flight or t.breaker.waiting) != t.busy
        ]
        return min([beat + HEARTBEAT_SECONDS, *turning])

    async def _tell(self, traffic: _Traffic, now: float, *, beating: bool) -> None:
        busy = bool(traffic.breaker.in_flight or traffic.breaker.waiting)
        turned = busy != traffic.busy and now - traffic.told_at >= SHORTEST_SECONDS
        if not turned and not traffic.owed and not (beating and (busy or traffic.news)):
            return
        traffic.busy, traffic.told_at, traffic.news, traffic.owed = busy, now, False, False
        meta = traffic.model.metadata
        await self._runtime.bus.publish(
            events.ActivityObserved(
                proxy=self._proxy,
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                idle_seconds=max(0.0, now - traffic.last),
                in_flight=traffic.breaker.in_flight,
                waiting=traffic.breaker.waiting,
            )
        )

    async def farewell(self) -> None:
        """Say that this proxy ends in good order."""
        await self._runtime.bus.publish(events.ProxyObserved(proxy=self._proxy, final=True))
