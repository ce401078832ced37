"""The prober: asks engines whether they answer, at their own Pod's address, and tells the launcher's controller.

It runs beside the controller and decides nothing. An address is trusted only after the API server itself returned the Pod's uid and
address; never through a Service. How often an engine is asked follows from what waits for it: while it loads, a hundredth of the time
that it has taken so far, so that at most 1 % is lost to not knowing (5 ms at first, 100 ms from 10 s on); each second once it answers.
"""

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec

from flexinfer import backends, sources
from flexinfer.api.address import host_port
from flexinfer.api.model import Model
from flexinfer.backends import Backend
from flexinfer.events.workload import PodFacts, pod_facts
from flexinfer.launcher import prompt_cache
from flexinfer.launcher.engine_client import Answer, Ask, http_client
from flexinfer.launcher.manifests import pod_name, serving
from flexinfer.launcher.memory import EngineProbed, Memory, pods_of
from flexinfer.launcher.metrics import in_flight
from flexinfer.launcher.view import view_of
from flexinfer.runtime.kubernetes.api import PODS, ApiError, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState

log = logging.getLogger(__name__)
EAGER_SECONDS = 5.0
"""How long a new Pod is probed eagerly even if no request for it is known yet."""
CONFIRM_SECONDS = 5.0
"""How often the Pod of an engine that does not answer yet is read: a deletion that no watch reported ends the wait for it."""
DRAINING, STEADY = 0.1, 1.0
_SHARE, _SHORTEST, _LONGEST = 0.01, 0.005, 0.1
_ADDRESS = 0.1
"""How often the API server is asked for an address that no watch has reported yet: while a Pod starts it has others to serve."""
_STAGE_LENGTH = 200
_FAILURES = 3
"""Answers in a row that must fail before a healthy engine counts as unhealthy; a refused connection counts at once."""
Remember: TypeAlias = Callable[[EngineProbed], None]


class _Reported(msgspec.Struct, frozen=True):
    """What was last reported of a Pod: only a change is reported again."""

    healthy: bool
    failing: bool
    stage: str
    in_flight: int | None
    version: int
    running: bool
    restarts: int


class _ProbeTarget(msgspec.Struct):
    """One Pod that is probed: its last result, and when it is due again."""

    pod: PodFacts
    since: float
    due: float = 0.0
    busy: bool = False
    healthy: bool = False
    failures: int = 0
    confirmed: bool = False
    confirmed_at: float = 0.0
    draining: bool = False
    prepared: bool = False
    """Whether its prompt caches were restored; an engine that was Ready before this process started has had its turn."""
    reported: _Reported | None = None


class Prober:
    """Probes every engine that is up. `opened` gives the client: HTTP, or the simulation's own.

    What a change costs is the Models that it touches, and what a probe costs is that engine: neither walks all of them.
    """

    def __init__(
        self, opened: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = http_client
    ) -> None:
        self._opened = opened
        self._changed = asyncio.Event()
        self._targets: dict[str, _ProbeTarget] = {}
        self._touched: set[str] = set()
        self._heap: list[tuple[float, str]] = []  # when a target is due; may hold times that no longer count
        self._state, self._memory = ObservedState(), Memory()

    def touch(self, keys: Iterable[str]) -> Iterable[str]:
        """Look at these Models again when the newest state has come; returns the keys."""
        touched = tuple(keys)
        self._touched.update(touched)
        return touched

    def observe(self, state: ObservedState, memory: Memory) -> None:
        """Take the newest state: a Pod that is new is probed at once."""
        self._state, self._memory = state, memory
        if self._touched:
            self._changed.set()

    async def watch(self, runtime: Runtime, remember: Remember) -> None:
        """Probe until cancelled: the companion of the launcher's controller."""
        async with self._opened() as ask, asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                state, now = self._state, runtime.clock()
                self._select(state, now)
                for model, target in self._due(state, now):
                    target.busy = True
                    attempt = _ProbeAttempt(runtime, model, target, ask, remember)
                    tasks.create_task(self._probe(attempt, state))
                await self._wait(now)

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

    def _due(self, state: ObservedState, now: float) -> Iterator[tuple[Model, _ProbeTarget]]:
        """Yield the targets that are due."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            model, target = state.models.get(key), self._targets.get(key)
            if model is not None and target is not None and not target.busy and target.due == at:
                yield model, target

    def _schedule(self, key: str, target: _ProbeTarget, due: float) -> None:
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
        target, draining = self._targets.get(model.key), view_of(model).ready.draining
        if target is None:
            target = self._targets[model.key] = _ProbeTarget(pod, now)
            target.healthy = target.prepared = _was_ready(model, pod)
            self._schedule(model.key, target, now)
        elif pod.version > target.pod.version:
            target.pod = pod
            self._schedule(model.key, target, min(target.due, now))
        if target.draining != draining:
            target.draining = draining
            self._schedule(model.key, target, now)

    async def _probe(self, attempt: "_ProbeAttempt", state: ObservedState) -> None:
        target, key, draining = attempt.target, attempt.model.key, view_of(attempt.model).ready.draining
        try:
            await attempt.run(draining=draining)
        except Exception as error:
            # What one engine answers must not end the probing of all others: it counts as not answering, and is asked again.
            log.exception("%s: its engine was not probed", key)
            attempt.runtime.report_failure(key, error)
            target.failures += 1
        target.busy = False
        seconds = 0.0 if target.draining and not draining else _interval(attempt, state)
        self._schedule(key, target, attempt.runtime.clock() + seconds)
        self._changed.set()


class _ProbeAttempt:
    """One probe of one Pod."""

    def __init__(
        self, runtime: Runtime, model: Model, target: _ProbeTarget, ask: Ask, remember: Remember
    ) -> None:
        self.runtime, self.model, self.target = runtime, model, target
        self._ask, self._remember = ask, remember

    async def run(self, *, draining: bool) -> None:
        """Confirm the address if need be, ask the engine, and report what is new."""
        target, backend = self.target, backends.find(self.model.spec.backend)
        if backend is None or (self._is_unconfirmed() and not await self._confirm()):
            return
        if not target.pod.ip:
            return
        root = f"http://{host_port(target.pod.ip, backend.port)}"
        answer = await self._ask(f"{root}{backend.health}")
        good = answer.good and _expected(self.model, backend) in answer.body
        if good and not target.prepared:
            target.prepared = True
            await prompt_cache.restore(self.model, target.pod)
        was_healthy = target.healthy
        target.failures = 0 if good else target.failures + 1
        # A busy engine may be late once or twice; a refused connection means that its process is gone.
        target.healthy = good or (was_healthy and not answer.refused and target.failures < _FAILURES)
        requests = await self._in_flight(root, backend, answer) if draining else None
        if was_healthy and not target.healthy:
            target.since = self.runtime.clock()
            if not await self._confirm():
                return
        self._report(self._detail(answer, good=good), self._stage(answer), requests, always=draining)

    def _is_unconfirmed(self) -> bool:
        """Tell whether the Pod must be read: its address is not known, or it may have been deleted while its engine loads."""
        target = self.target
        if not target.confirmed or not target.pod.ip:
            return True
        return not target.healthy and self.runtime.clock() - target.confirmed_at >= CONFIRM_SECONDS

    def _detail(self, answer: Answer, *, good: bool) -> str:
        if good or self.target.healthy:
            return ""
        return answer.detail or f"health check: HTTP {answer.code}"

    def _stage(self, answer: Answer) -> str:
        """Return what an engine that loads answered: servers name a stage there, or how far they are."""
        return (
            f"{answer.code} {answer.body[:_STAGE_LENGTH]}" if answer.code and not self.target.healthy else ""
        )

    async def _confirm(self) -> bool:
        """Read the Pod; False if it was deleted, is another one, or cannot be read now."""
        target, meta = self.target, self.model.metadata
        try:
            pod = await self.runtime.cluster.get(PODS, meta.namespace, pod_name(self.model))
        except NotFoundError:
            pod = None
        except ApiError:
            return False
        if pod is None or pod.metadata.uid != target.pod.uid:
            self._remember(
                EngineProbed(
                    key=self.model.key, uid=meta.uid, pod_uid=target.pod.uid, healthy=False, gone=True
                )
            )
            return False
        facts = pod_facts(pod)
        owned = any(owner.uid == meta.uid and owner.controller for owner in pod.metadata.owner_references)
        if not owned or facts.model_uid != meta.uid:
            return False
        target.pod, target.confirmed, target.confirmed_at = facts, bool(facts.ip), self.runtime.clock()
        return True

    async def _in_flight(self, root: str, backend: Backend, health: Answer) -> int | None:
        """Return how many requests the engine itself reports, or None if that is unknown; a process that has ended has none."""
        if health.refused:
            return 0
        if not backend.in_flight or not health.good:
            return None
        answer = await self._ask(f"{root}{backend.in_flight}")
        return in_flight(answer.body, backend.in_flight_metrics) if answer.good else None

    def _report(self, detail: str, stage: str, requests: int | None, *, always: bool) -> None:
        target, pod = self.target, self.target.pod
        report = _Reported(
            target.healthy, bool(detail), stage, requests, pod.version, pod.running, pod.restarts
        )
        if report == target.reported and not always:
            return
        target.reported = report
        self._remember(
            EngineProbed(
                key=self.model.key,
                uid=self.model.uid,
                pod_uid=pod.uid,
                healthy=target.healthy,
                detail=detail,
                stage=stage,
                in_flight=requests,
                pod=pod,
            )
        )


def _expected(model: Model, backend: Backend) -> str:
    location = sources.locate(model)
    return backend.expects(serving(model, location.path if location is not None else ""))


def _pod_up(model: Model, state: ObservedState, memory: Memory) -> PodFacts | None:
    """Return the Pod that may be probed: its gate is open, and it has neither ended nor begun to terminate."""
    pod = next(reversed(pods_of(model, state, memory)), None)
    return None if pod is None or pod.gated or pod.ended or pod.deleting else pod


def _was_ready(model: Model, pod: PodFacts) -> bool:
    """Tell whether the engine was Ready before this process started: then one late answer does not end that."""
    view = view_of(model)
    host = view.backend.address.rpartition(":")[0].strip("[]")
    return view.ready.true and bool(pod.ip) and host == pod.ip


def _interval(attempt: _ProbeAttempt, state: ObservedState) -> float:
    """Return in how many seconds the next probe is due."""
    target, view = attempt.target, view_of(attempt.model)
    if view.ready.draining:
        return DRAINING
    if target.healthy and not target.failures:
        return STEADY
    if not target.pod.ip:
        return _ADDRESS
    waited = attempt.runtime.clock() - target.since
    requested = any(activity.waiting for activity in state.activity_of(view.model).values())
    eager = waited <= EAGER_SECONDS or requested or view.wanted.true
    return loading_interval(waited) if eager else STEADY


def loading_interval(waited: float) -> float:
    """Return in how many seconds to probe again an engine that has been loading for so long."""
    return min(max(waited * _SHARE, _SHORTEST), _LONGEST)
