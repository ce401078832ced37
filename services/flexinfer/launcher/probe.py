"""The prober: asks engines whether they answer, at their own Pod's address, and tells the launcher's controller.

It runs beside the controller and decides nothing. An address is trusted only after the API server itself returned the Pod's uid and
address; never through a Service. How often an engine is asked follows from what waits for it: while it loads, a hundredth of the time
that it has taken so far, so that at most 1 % is lost to not knowing (5 ms at first, 100 ms from 10 s on); each second once it answers.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import aiohttp
import msgspec

from flexinfer import backends, sources
from flexinfer.api.address import host_port
from flexinfer.api.model import Model
from flexinfer.backends import Backend
from flexinfer.events.workload import PodFacts, pod_facts
from flexinfer.launcher.manifests import pod_name, serving
from flexinfer.launcher.memory import EngineProbed, Memory, pods_of
from flexinfer.launcher.view import view_of
from flexinfer.runtime.kubernetes.api import PODS, ApiError, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState

EAGER_SECONDS = 5.0
"""How long a new Pod is probed eagerly even if no request for it is known yet."""
DRAINING, STEADY = 0.1, 1.0
_SHARE, _SHORTEST, _LONGEST = 0.01, 0.005, 0.1
_ADDRESS = 0.1
"""How often the API server is asked for an address that no watch has reported yet: while a Pod starts it has others to serve."""
_FAILURES = 3
"""Answers in a row that must fail before a healthy engine counts as unhealthy; a refused connection counts at once."""
_ANSWER_SECONDS = 1.0
_LONGEST_BODY = 1 << 18


class Answer(msgspec.Struct, frozen=True):
    """What an engine answered; `code` 0 with a `detail` when it did not."""

    code: int
    body: str = ""
    detail: str = ""
    refused: bool = False

    @property
    def good(self) -> bool:
        """Whether it was a success."""
        return 200 <= self.code < 300  # noqa: PLR2004 -- HTTP's own


Ask: TypeAlias = Callable[[str], Awaitable[Answer]]
Remember: TypeAlias = Callable[[EngineProbed], None]


@contextlib.asynccontextmanager
async def http_client() -> AsyncIterator[Ask]:
    """Open a client that asks engines over HTTP."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(url: str) -> Answer:
            try:
                async with session.get(url, allow_redirects=False) as response:
                    body = await response.content.read(_LONGEST_BODY)
                    return Answer(response.status, body.decode(errors="replace"))
            except aiohttp.ClientConnectorError as error:
                return Answer(0, detail=f"no connection: {error.strerror or error}", refused=True)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                return Answer(0, detail=f"no answer: {error or type(error).__name__}")

        yield ask


class _Reported(msgspec.Struct, frozen=True):
    """What was last reported of a Pod: only a change is reported again."""

    healthy: bool
    failing: bool
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
    draining: bool = False
    reported: _Reported | None = None


class Prober:
    """Probes every engine that is up. `opened` gives the client: HTTP, or the simulation's own."""

    def __init__(
        self, opened: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = http_client
    ) -> None:
        self._opened = opened
        self._changed = asyncio.Event()
        self._targets: dict[str, _ProbeTarget] = {}
        self._state, self._memory = ObservedState(), Memory()
        self._selected: tuple[ObservedState, Memory] | None = None

    def observe(self, state: ObservedState, memory: Memory) -> None:
        """Take the newest state: a Pod that is new is probed at once."""
        self._state, self._memory = state, memory
        self._changed.set()

    async def watch(self, runtime: Runtime, remember: Remember) -> None:
        """Probe until cancelled: the companion of the launcher's controller."""
        async with self._opened() as ask, asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                state, now = self._state, runtime.clock()
                self._select(state, now)
                for key, target in self._targets.items():
                    if not target.busy and target.due <= now:
                        target.busy = True
                        attempt = _ProbeAttempt(runtime, state.models[key], target, ask, remember)
                        tasks.create_task(self._probe(attempt, state))
                await self._wait(now)

    async def _wait(self, now: float) -> None:
        """Return when a target is due or the state has changed."""
        due = min((target.due for target in self._targets.values() if not target.busy), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                await self._changed.wait()

    def _select(self, state: ObservedState, now: float) -> None:
        """Keep exactly the Pods that are up as targets; one that is new, newer or begins to drain is due at once."""
        if self._selected is not None and self._selected[0] is state and self._selected[1] is self._memory:
            return
        self._selected = (state, self._memory)
        up = {
            model.key: pod
            for model in state.models.values()
            if (pod := _pod_up(model, state, self._memory)) is not None
        }
        targets = self._targets.items()
        self._targets = {k: target for k, target in targets if k in up and up[k].uid == target.pod.uid}
        for key, pod in up.items():
            self._update(state.models[key], pod, now)

    def _update(self, model: Model, pod: PodFacts, now: float) -> None:
        target = self._targets.get(model.key)
        if target is None:
            target = self._targets[model.key] = _ProbeTarget(pod, now, healthy=_was_ready(model, pod))
        elif pod.version > target.pod.version:
            target.pod, target.due = pod, min(target.due, now)
        draining = view_of(model).ready.draining
        if target.draining != draining:
            target.draining, target.due = draining, now

    async def _probe(self, attempt: "_ProbeAttempt", state: ObservedState) -> None:
        await attempt.run(draining=view_of(attempt.model).ready.draining)
        attempt.target.due = attempt.runtime.clock() + _interval(attempt, state)
        attempt.target.busy = False
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
        if backend is None or ((not target.confirmed or not target.pod.ip) and not await self._confirm()):
            return
        if not target.pod.ip:
            return
        root = f"http://{host_port(target.pod.ip, backend.port)}"
        answer = await self._ask(f"{root}{backend.health}")
        good = answer.good and _expected(self.model, backend) in answer.body
        was_healthy = target.healthy
        target.failures = 0 if good else target.failures + 1
        # A busy engine may be late once or twice; a refused connection means that its process is gone.
        target.healthy = good or (was_healthy and not answer.refused and target.failures < _FAILURES)
        in_flight = await self._in_flight(root, backend) if draining and good else None
        if was_healthy and not target.healthy:
            target.since = self.runtime.clock()
            if not await self._confirm():
                return
        self._report(self._detail(answer, good=good), in_flight, always=draining)

    def _detail(self, answer: Answer, *, good: bool) -> str:
        if good or self.target.healthy:
            return ""
        return answer.detail or f"health check: HTTP {answer.code}"

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
        target.pod, target.confirmed = facts, bool(facts.ip)
        return True

    async def _in_flight(self, root: str, backend: Backend) -> int | None:
        """Return how many requests the engine itself reports, or None if it does not."""
        if not backend.in_flight:
            return None
        answer = await self._ask(f"{root}{backend.in_flight}")
        return in_flight(answer.body, backend.in_flight_metrics) if answer.good else None

    def _report(self, detail: str, requests: int | None, *, always: bool) -> None:
        target, pod = self.target, self.target.pod
        report = _Reported(target.healthy, bool(detail), requests, pod.version, pod.running, pod.restarts)
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
                in_flight=requests,
                pod=pod,
            )
        )


def in_flight(text: str, metrics: tuple[str, ...]) -> int | None:
    """Return the sum of gauges in the Prometheus text format, or None if it has none of them."""
    values = [
        float(value)
        for name in metrics
        for value in re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? ([0-9.e+]+)\s*$", text, re.MULTILINE)
    ]
    return round(sum(values)) if values else None


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
