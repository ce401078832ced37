"""The door of the simulation: people who ask, and a proxy that says so as ours does."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from flexinfer.api.model import Model
from flexinfer.events import events
from tests.simulation.bus import Broker

HEARTBEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0


class Door:
    """One proxy; `models` shows it what Models there are."""

    def __init__(
        self,
        broker: Broker,
        chance: random.Random,
        clock: Callable[[], float],
        models: Callable[[], dict[str, Model]],
    ) -> None:
        self._broker, self._chance, self._clock, self._models = broker, chance, clock, models
        self._in_flight: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._last: dict[str, float] = {}

    async def keep(self) -> None:
        """Tell of life and traffic for ever."""
        while True:
            await self._broker.publish(events.ProxyObserved(proxy="p"))
            for key in sorted(set(self._in_flight) | set(self._waiting)):
                if self._in_flight[key] or self._waiting[key]:
                    await self._tell(key)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _tell(self, key: str) -> None:
        model = self._models().get(key)
        if model is None:
            return
        idle = self._clock() - self._last.get(key, self._clock())
        await self._broker.publish(
            events.ActivityObserved(
                proxy="p",
                namespace=model.metadata.namespace,
                name=model.metadata.name,
                uid=model.uid,
                idle_seconds=idle,
                in_flight=self._in_flight[key],
                waiting=self._waiting[key],
            )
        )

    async def ask(self, key: str) -> bool:
        """Ask a Model once; returns whether it answered in time."""
        self._last[key] = self._clock()
        until = self._clock() + PATIENCE_SECONDS
        self._waiting[key] += 1
        await self._tell(key)
        try:
            while not self._ready(key):
                if self._clock() >= until or key not in self._models():
                    return False
                await self._wake(key)
                await asyncio.sleep(1.0)
        finally:
            self._waiting[key] -= 1
        self._in_flight[key] += 1
        await self._tell(key)
        await asyncio.sleep(self._chance.random() * 2)
        self._in_flight[key] -= 1
        self._last[key] = self._clock()
        await self._tell(key)
        return True

    def _ready(self, key: str) -> bool:
        model = self._models().get(key)
        ready = model.condition("Ready") if model is not None else None
        return ready is not None and ready.true

    async def _wake(self, key: str) -> None:
        model = self._models().get(key)
        if model is not None:
            meta = model.metadata
            await self._broker.publish(
                events.WakeRequested(namespace=meta.namespace, name=meta.name, uid=meta.uid)
            )
