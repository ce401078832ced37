"""The prober: asks engines whether they answer, at their own Pod's address, and tells the launcher's controller.

It runs beside the controller and decides nothing. An address is trusted only after the API server itself returned the Pod's uid and
address; never through a Service. How often an engine is asked follows from what waits for it: while it loads, a hundredth of the time
that it has taken so far, so that at most 1 % is lost to not knowing (5 ms at first, 100 ms from 10 s on); each second once it answers.
"""

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Callable, Iterator

from flexinfer.api.model import Model
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.engine_client import Ask, http_client
from flexinfer.launcher.memory import Memory, pods_of
from flexinfer.launcher.probe_attempt import ProbeAttempt, ProbeTarget, Remember
from flexinfer.launcher.unresponsive import runs_as_ready
from flexinfer.launcher.view import ready_of, view_of
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.touched_keys import TouchedKeys
from flexinfer.state.observed import ObservedState

log = logging.getLogger(__name__)
EAGER_SECONDS = 5.0
"""How long a new Pod is probed eagerly even if no request for it is known yet."""
DRAINING, STEADY = 0.1, 1.0
_SHARE, _SHORTEST, _LONGEST = 0.01, 0.005, 0.1
_ADDRESS = 0.1
"""How often the API server is asked for an address that no watch has reported yet: while a Pod starts it has others to serve."""


class Prober(TouchedKeys):
    """Probes every engine that is up. `opened` gives the client: HTTP, or the simulation's own.

    What a change costs is the Models that it touches, and what a probe costs is that engine: neither walks all of them.
    """

    def __init__(
        self, open_client: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = http_client
    ) -> None:
        super().__init__()
        self._opened = open_client
        self._changed = asyncio.Event()
        self._targets: dict[str, ProbeTarget] = {}
        self._heap: list[tuple[float, str]] = []  # when a target is due; may hold times that no longer count
        self._state, self._memory = ObservedState(), Memory()

    def observe(self, state: ObservedState, memory: Memory) -> None:
        """Take the newest state: a Pod that is new is probed at once."""
        self._state, self._memory = state, memory
        if self._touched:
            self._changed.set()

    async def watch(self, runtime: Runtime, remember: Remember) -> None:
        """Probe until cancelled: the companion of the launcher's controller."""
        async with self._opened() as ask, asyncio.TaskGroup() as tasks:
            self._begin(runtime.clock())
            while True:
                self._changed.clear()
                state, now = self._state, runtime.clock()
                self._select(state, now)
                for model, target in self._due(state, now):
                    target.busy = True
                    attempt = ProbeAttempt(runtime, model, target, ask, remember)
                    tasks.create_task(self._probe(attempt, state))
                await self._wait(now)

    def _begin(self, now: float) -> None:
        """Have the targets of before probed at once: an error may have ended their probes."""
        for key, target in self._targets.items():
            target.busy = False
            self._schedule(key, target, now)

    async def _wait(self, now: float) -> None:
        """Return when a target is due or the state has changed."""
        if not self._heap:
            await self._changed.wait()
            return
        # A timer and no timeout, which would be a cancellation at each of a hundred probes a second.
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, self._heap[0][0] - now), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    def _due(self, state: ObservedState, now: float) -> Iterator[tuple[Model, ProbeTarget]]:
        """Yield the targets that are due."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            model, target = state.models.get(key), self._targets.get(key)
            if model is not None and target is not None and not target.busy and target.due == at:
                yield model, target

    def _schedule(self, key: str, target: ProbeTarget, due: float) -> None:
        target.due = due
        heapq.heappush(self._heap, (due, key))

    def _select(self, state: ObservedState, now: float) -> None:
        """Keep exactly the Pods that are up as targets; one that is new, newer or begins to drain is due at once."""
        for key in sorted(self._touched):
            model = state.models.get(key)
            pod = _pod_up(model, state, self._memory) if model is not None else None
            target = self._targets.get(key)
            if target is not None and (pod is None or pod.uid != target.pod.uid):
                del self._targets[key]
            if model is not None and pod is not None:
                self._update(model, pod, now)
        self._touched.clear()

    def _update(self, model: Model, pod: PodFacts, now: float) -> None:
        target, draining = self._targets.get(model.key), ready_of(model).draining
        if target is None:
            target = self._targets[model.key] = ProbeTarget(pod, now)
            target.healthy, target.prepared = _was_ready(model, pod), is_prepared(model, pod)
            self._schedule(model.key, target, now)
        elif pod.version > target.pod.version:
            target.pod = pod
            self._schedule(model.key, target, min(target.due, now))
        if target.draining != draining:
            target.draining = draining
            self._schedule(model.key, target, now)

    async def _probe(self, attempt: ProbeAttempt, state: ObservedState) -> None:
        target, key, draining = attempt.target, attempt.model.key, ready_of(attempt.model).draining
        try:
            await attempt.run(draining=draining)
        except Exception as error:
            # What one engine answers must not end the probing of all others: it counts as not answering, and is asked again.
            log.exception("%s: its engine was not probed", key)
            attempt.runtime.report_failure(key, error)
            target.failures += 1
        target.busy = False
        seconds = 0.0 if target.draining and not draining else _interval(attempt, state, draining=draining)
        self._schedule(key, target, attempt.runtime.clock() + seconds)
        self._changed.set()


def _pod_up(model: Model, state: ObservedState, memory: Memory) -> PodFacts | None:
    """Return the Pod that may be probed: its gate is open, and it has neither ended nor begun to terminate."""
    pod = next(reversed(pods_of(model, state, memory)), None)
    return None if pod is None or pod.gated or pod.ended or pod.deleting else pod


def _was_ready(model: Model, pod: PodFacts) -> bool:
    """Return whether the engine was Ready before this process started: then one late answer does not end that."""
    view = view_of(model)
    host = view.backend.address.rpartition(":")[0].strip("[]")
    return view.ready.true and bool(pod.ip) and host == pod.ip


def is_prepared(model: Model, pod: PodFacts) -> bool:
    """Return whether the engine was Ready before this process started: its prompt caches were restored then, and it has newer ones since."""
    return _was_ready(model, pod) or runs_as_ready(view_of(model), pod)


def _interval(attempt: ProbeAttempt, state: ObservedState, *, draining: bool) -> float:
    """Return in how many seconds the next probe is due."""
    target = attempt.target
    if draining:
        return DRAINING
    if target.healthy and not target.failures:
        return STEADY
    if not target.pod.ip:
        return _ADDRESS
    waited_seconds = attempt.runtime.clock() - target.since
    requested = any(activity.waiting for activity in state.activity_of(attempt.model).values())
    eager = waited_seconds <= EAGER_SECONDS or requested or view_of(attempt.model).wanted.true
    return loading_interval(waited_seconds) if eager else STEADY


def loading_interval(waited_seconds: float) -> float:
    """Return in how many seconds to probe again an engine that has been loading for so long."""
    return min(max(waited_seconds * _SHARE, _SHORTEST), _LONGEST)
