"""How a stop learns that its Pods are gone: by what the launcher observes anyway.

That no Pod is left is proved by a consistent LIST alone; this only tells when a LIST is worth it, so that a stop need not poll.
"""

import asyncio
import contextlib
from collections.abc import Iterator

from flexinfer.api.model import Model
from flexinfer.events.events import WorkloadObserved
from flexinfer.launcher.memory import Memory
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState


class Wait:
    """A stop that waits for the Pods of a Model."""

    def __init__(self, model: Model, workload: WorkloadObserved | None) -> None:
        self._uid, self._workload = model.uid, workload
        self._gone = asyncio.Event()

    def take(self, workload: WorkloadObserved | None) -> None:
        """Take the Model's workload as observed now: what has changed and holds no Pod of the Model ends the wait."""
        if workload is self._workload:
            return
        self._workload = workload
        if workload is None or not any(pod.model_uid == self._uid for pod in workload.pods):
            self._gone.set()

    async def until(self, runtime: Runtime, seconds: float) -> None:
        """Return once the Pods were observed to be gone, or after so many seconds."""
        await runtime.sleep_unless(self._gone, seconds)
        self._gone.clear()


class PodsGone:
    """The stops that wait, by key of their Model; fed with each state that the launcher's loop has."""

    def __init__(self) -> None:
        self._waits: dict[str, Wait] = {}
        self._state = ObservedState()

    def observe(self, state: ObservedState, _memory: Memory) -> None:
        """Take the newest state."""
        self._state = state
        for key, wait in self._waits.items():
            wait.take(state.workloads.get(key))

    @contextlib.contextmanager
    def follow(self, model: Model) -> Iterator[Wait]:
        """Follow a Model's Pods, from before the first LIST on."""
        wait = self._waits[model.key] = Wait(model, self._state.workloads.get(model.key))
        try:
            yield wait
        finally:
            del self._waits[model.key]
