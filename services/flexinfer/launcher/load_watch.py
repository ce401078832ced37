"""The watch over engines that load: each time one is seen to hold more memory of its devices it has made progress.

It is telemetry's figure, the bytes of weights that have reached the device: it needs no word of the engine, and grows with every engine. It
decides nothing: the deadline that this extends is `loading`'s.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeAlias

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.launcher.memory import LOADED_MB, Memory, MemoryLoaded, pods_of
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState

Remember: TypeAlias = Callable[[MemoryLoaded], None]


class LoadWatch:
    """Tells the launcher's controller of memory that engines have loaded."""

    def __init__(self) -> None:
        self._state, self._memory = ObservedState(), Memory()
        self._sampled = asyncio.Event()

    def observe(self, state: ObservedState, memory: Memory) -> None:
        """Take the state before a round of decisions."""
        if state.gpus is not self._state.gpus:
            self._sampled.set()
        self._state, self._memory = state, memory

    async def watch(self, _runtime: Runtime, remember: Remember) -> None:
        """Look after each sample, until cancelled."""
        while True:
            await self._sampled.wait()
            self._sampled.clear()
            for fact in loaded(self._state, self._memory):
                remember(fact)


def loaded(state: ObservedState, memory: Memory) -> Iterator[MemoryLoaded]:
    """Yield the engines that are seen to hold more device memory than when they last made progress. Pure."""
    for key in sorted(state.with_reason(conditions.READY, Reason.LOADING)):
        model = state.models.get(key)
        pods = pods_of(model, state, memory) if model is not None else ()
        sample = state.gpus.get(pods[-1].node) if pods else None
        if model is None or sample is None:
            continue
        uid, last = pods[-1].uid, memory.progress.get(model.uid)
        processes = (p for device in sample.observed.devices for p in device.processes)
        device_mb = sum(p.used_mb for p in processes if p.pod_uid == uid)
        before = last.device_mb if last is not None and last.pod_uid == uid else 0
        if device_mb >= before + LOADED_MB:
            yield MemoryLoaded(key=key, uid=model.uid, pod_uid=uid, device_mb=device_mb)
