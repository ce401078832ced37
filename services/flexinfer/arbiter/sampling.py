"""Which nodes a sample is waited for, and the hints that let their agents take one now.

A holder that has stopped, and a group that is seen for the first time, wait for a sample of from then on: where nothing changes any more, the
next one would come with the agent's heartbeat, up to 10 s later. A hint may be lost, so it is repeated.
"""

import asyncio
from collections.abc import Iterator, Mapping

from flexinfer.api.sharedgroup import STOPPED
from flexinfer.events.events import SampleAwaited
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import STALE_SECONDS, ObservedState

_AGAIN_SECONDS = 1.0


class SampleHints:
    """Publishes hints for the nodes of what was last observed, each at once and again each second, for as long as a silent node is waited for."""

    def __init__(self) -> None:
        self._state = ObservedState()
        self._changed = asyncio.Event()

    def observe(self, state: ObservedState, _memory: None = None) -> None:
        """Take the state before a round of decisions."""
        before, self._state = self._state, state
        if before.released_at is not state.released_at or before.step_since is not state.step_since:
            self._changed.set()

    async def run(self, runtime: Runtime, _remember: object = None) -> None:
        """Publish, until cancelled: the companion of the arbiter's controller."""
        loop, hinted_at = asyncio.get_running_loop(), dict[str, float]()
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            now = runtime.clock()
            waits = awaited_samples(self._state, now) if runtime.is_leader() else {}
            hinted_at = {node: at for node, at in hinted_at.items() if node in waits}
            for node, since in waits.items():
                last = hinted_at.get(node)
                if last is None or last < since or now >= last + _AGAIN_SECONDS:
                    hinted_at[node] = now
                    await runtime.bus.publish(SampleAwaited(node=node))
            if waits:
                loop.call_later(_AGAIN_SECONDS, self._changed.set)


def awaited_samples(state: ObservedState, now: float) -> Mapping[str, float]:
    """Return since when a sample of a node is waited for, by node; not of one that has been silent for too long, nor where no agent ever was."""
    waits: dict[str, float] = {}
    for node, since in _waits(state):
        sample = state.gpus.get(node)
        if sample is not None and sample.at <= since and now < since + STALE_SECONDS:
            waits[node] = max(since, waits.get(node, since))
    return waits


def _waits(state: ObservedState) -> Iterator[tuple[str, float]]:
    """Yield the nodes of holders that have stopped, and of groups that have given back devices, each with since when."""
    for (key, uid), step in state.step_since.items():
        group = state.groups.get(key)
        holder = group.holder(uid) if group is not None and step.step == STOPPED else None
        if holder is not None:
            yield holder.node, step.at
    for key, at in state.released_at.items():
        group = state.groups.get(key)
        if group is not None:
            yield group.status.node, at
