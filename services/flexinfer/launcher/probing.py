"""The prober: asks engines whether they answer, at their own Pod's address, and tells the launcher what it heard.

It runs beside the reactor and owns no verdict. An address is believed only after the API server itself showed the Pod's uid and address; never
through a Service. How often it asks follows from who waits: each time a hundredth of its wait has been added while an engine loads, so that at most
1 % is lost to not knowing (5 ms at first, 100 ms from 10 s on); each second once it answers.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
import msgspec

from flexinfer import backends, sources
from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.backends import Backend
from flexinfer.events.workload import PodFacts, pod_facts
from flexinfer.launcher import rules
from flexinfer.launcher.manifests import pod_name, serving
from flexinfer.launcher.memory import EngineProbed, Memory
from flexinfer.runtime.kubernetes.api import PODS, ApiError, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState

EAGER_SECONDS = 5.0
"""For so long nobody needs to want a Pod that is new: whoever did may not be heard of yet."""
DRAINING, STEADY = 0.1, 1.0
_SHARE, _SHORTEST, _LONGEST = 0.01, 0.005, 0.1
_ADDRESS = 0.1
"""How often the API server is asked for an address that no watch has told yet: at the start of a Pod it has others to serve."""
_FAILURES = 3
"""Answers in a row that must fail before an engine that answered counts as silent; a refused connection counts at once."""
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
        """Whether it was a yes."""
        return 200 <= self.code < 300  # noqa: PLR2004 -- HTTP's own


Ask: TypeAlias = Callable[[str], Awaitable[Answer]]


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[Ask]:
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


class _Patient(msgspec.Struct):
    """One Pod that is asked: what it last said, and when it is due again."""

    pod: PodFacts
    since: float
    due: float = 0.0
    busy: bool = False
    healthy: bool = False
    failures: int = 0
    confirmed: bool = False
    draining: bool = False
    told: tuple[Any, ...] = ()


class Prober:
    """Asks every engine that is up. `opened` gives the client: HTTP, or a simulated world's own."""

    def __init__(self, opened: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = asking) -> None:
        self._opened = opened
        self._news = asyncio.Event()
        self._patients: dict[str, _Patient] = {}
        self._state, self._memory = ObservedState(), Memory()
        self._admitted: tuple[ObservedState, Memory] | None = None

    def observe(self, state: ObservedState, memory: Memory) -> None:
        """Take the newest state: a Pod that is new is probed at once."""
        self._state, self._memory = state, memory
        self._news.set()

    async def watch(self, runtime: Runtime, tell: Callable[[EngineProbed], None]) -> None:
        """Ask for ever: the companion of the launcher's reactor."""
        async with self._opened() as ask, asyncio.TaskGroup() as tasks:
            while True:
                self._news.clear()
                state, now = self._state, runtime.clock()
                self._admit(state, now)
                for key, patient in self._patients.items():
                    if not patient.busy and patient.due <= now:
                        patient.busy = True
                        visit = _Visit(runtime, state.models[key], patient, ask, tell)
                        tasks.create_task(self._visit(visit, state))
                await self._wait(now)

    async def _wait(self, now: float) -> None:
        due = min((p.due for p in self._patients.values() if not p.busy), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                await self._news.wait()

    def _admit(self, state: ObservedState, now: float) -> None:
        """Keep exactly the Pods that are up; one that is new is asked at once."""
        if self._admitted is not None and self._admitted[0] is state and self._admitted[1] is self._memory:
            return
        self._admitted = (state, self._memory)
        up = {
            model.key: pod
            for model in state.models.values()
            if (pod := _up(model, state, self._memory)) is not None
        }
        for key in [k for k, p in self._patients.items() if k not in up or up[k].uid != p.pod.uid]:
            del self._patients[key]
        for key, pod in up.items():
            known = self._patients.get(key)
            model = state.models[key]
            if known is None:
                known = self._patients[key] = _Patient(pod, now, healthy=_adopted(model, pod))
            elif pod.version > known.pod.version:
                known.pod, known.due = pod, min(known.due, now)
            if known.draining != _draining(model):
                known.draining, known.due = not known.draining, now

    async def _visit(self, visit: "_Visit", state: ObservedState) -> None:
        await visit.once(draining=_draining(visit.model))
        visit.patient.due = visit.runtime.clock() + _pause(visit, state)
        visit.patient.busy = False
        self._news.set()


class _Visit:
    """One look at one Pod."""

    def __init__(
        self,
        runtime: Runtime,
        model: Model,
        patient: _Patient,
        ask: Ask,
        tell: Callable[[EngineProbed], None],
    ) -> None:
        self.runtime, self.model, self.patient = runtime, model, patient
        self._ask, self._tell = ask, tell

    async def once(self, *, draining: bool) -> None:
        """Confirm the address if need be, ask, and tell what is new."""
        patient, backend = self.patient, backends.find(self.model.spec.backend)
        if backend is None or ((not patient.confirmed or not patient.pod.ip) and not await self._confirm()):
            return
        if not patient.pod.ip:
            return
        root = f"http://{patient.pod.ip}:{backend.port}"
        answer = await self._ask(f"{root}{backend.health}")
        good = answer.good and _expected(self.model, backend) in answer.body
        was = patient.healthy
        patient.failures = 0 if good else patient.failures + 1
        patient.healthy = good or (was and not answer.refused and patient.failures < _FAILURES)
        busy = await self._busy(root, backend) if draining and good else None
        if was and not patient.healthy:
            patient.since = self.runtime.clock()
            if not await self._confirm():
                return
        self._say(self._detail(answer, good=good), busy, always=draining)

    def _detail(self, answer: Answer, *, good: bool) -> str:
        if good or self.patient.healthy:
            return ""
        return answer.detail or f"its health answers {answer.code}"

    async def _confirm(self) -> bool:
        """Read the Pod; False when it is gone, or is another one."""
        patient, meta = self.patient, self.model.metadata
        try:
            found = await self.runtime.cluster.get(PODS, meta.namespace, pod_name(self.model))
        except NotFoundError:
            found = None
        except ApiError:
            return False
        if found is None or found.metadata.uid != patient.pod.uid:
            self._tell(EngineProbed(uid=meta.uid, pod_uid=patient.pod.uid, healthy=False, detail=rules.GONE))
            return False
        facts = pod_facts(found)
        ours = any(o.uid == meta.uid and o.controller for o in found.metadata.owner_references)
        if not ours or facts.model_uid != meta.uid:
            return False
        patient.pod, patient.confirmed = facts, bool(facts.ip)
        return True

    async def _busy(self, root: str, backend: Backend) -> int | None:
        """Return how many requests the engine itself says that it works on."""
        if not backend.in_flight:
            return None
        answer = await self._ask(f"{root}{backend.in_flight}")
        return in_flight(answer.body, backend.in_flight_metrics) if answer.good else None

    def _say(self, detail: str, busy: int | None, *, always: bool) -> None:
        patient = self.patient
        pod = patient.pod
        news = (patient.healthy, bool(detail), busy, pod.version, pod.running, pod.restarts)
        if news == patient.told and not always:
            return
        patient.told = news
        self._tell(
            EngineProbed(
                uid=self.model.uid,
                pod_uid=pod.uid,
                healthy=patient.healthy,
                detail=detail,
                in_flight=busy,
                pod=pod,
            )
        )


def in_flight(text: str, metrics: tuple[str, ...]) -> int | None:
    """Return the sum of gauges in Prometheus' text, or None when it names none of them."""
    found = [
        float(value)
        for name in metrics
        for value in re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? ([0-9.e+]+)\s*$", text, re.MULTILINE)
    ]
    return round(sum(found)) if found else None


def _expected(model: Model, backend: Backend) -> str:
    location = sources.locate(model)
    return backend.expects(serving(model, location.path if location is not None else ""))


def _up(model: Model, state: ObservedState, memory: Memory) -> PodFacts | None:
    """Return the Pod that may be asked: its gate is open and it has neither ended nor begun to go."""
    pod = rules.pod_of(model, state, memory)
    return None if pod is None or pod.gated or pod.ended or pod.deleting else pod


def _adopted(model: Model, pod: PodFacts) -> bool:
    """Tell whether the engine counted as ready before we looked: one slow answer does not take that back."""
    ready, told = model.condition(conditions.READY), model.status.backend
    return (
        ready is not None
        and ready.true
        and told is not None
        and bool(pod.ip)
        and told.address.rpartition(":")[0] == pod.ip
    )


def _draining(model: Model) -> bool:
    ready = model.condition(conditions.READY)
    return ready is not None and ready.reason == Reason.DRAINING


def _pause(visit: _Visit, state: ObservedState) -> float:
    """Return how long to leave a Pod alone, in seconds."""
    patient, key = visit.patient, visit.model.key
    if _draining(visit.model):
        return DRAINING
    if patient.healthy and not patient.failures:
        return STEADY
    if not patient.pod.ip:
        return _ADDRESS
    waited = visit.runtime.clock() - patient.since
    asked_for = any(a.waiting for (k, _), a in state.activity.items() if k == key)
    eager = waited <= EAGER_SECONDS or asked_for or visit.model.is_true(conditions.WANTED)
    return loading_pause(waited) if eager else STEADY


def loading_pause(waited: float) -> float:
    """Return how long to leave an engine alone that has been loading for so long, in seconds."""
    return min(max(waited * _SHARE, _SHORTEST), _LONGEST)
