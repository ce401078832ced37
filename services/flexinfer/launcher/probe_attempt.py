"""One probe of one engine: what it answers, what is new in that, and whether its Pod is still the one it was."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from flexinfer import backends, sources
from flexinfer.api.address import host_port
from flexinfer.api.model import Model
from flexinfer.backends import Backend
from flexinfer.events.workload import PodFacts, pod_facts
from flexinfer.launcher import prompt_cache
from flexinfer.launcher.engine_client import Answer, Ask
from flexinfer.launcher.engine_metrics import in_flight
from flexinfer.launcher.manifests import serving
from flexinfer.launcher.memory import EngineProbed
from flexinfer.runtime.kubernetes.api import PODS, ApiError, get_or_none
from flexinfer.runtime.runtime import Runtime

CONFIRM_SECONDS = 5.0
"""How often the Pod of an engine that does not answer yet is read: a deletion that no watch reported ends the wait for it."""
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


class ProbeTarget(msgspec.Struct):
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


class ProbeAttempt:
    """One probe of one Pod."""

    def __init__(
        self, runtime: Runtime, model: Model, target: ProbeTarget, ask: Ask, remember: Remember
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
        """Return whether the Pod must be read: its address is not known, or it may have been deleted while its engine loads."""
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
            pod = await get_or_none(self.runtime.cluster, PODS, meta.namespace, self.model.pod_name)
        except ApiError:
            return False
        if pod is None or pod.metadata.uid != target.pod.uid:
            self._remember(
                EngineProbed(
                    key=self.model.key,
                    uid=meta.uid,
                    pod_uid=target.pod.uid,
                    healthy=False,
                    gone=True,
                    version=target.pod.version,
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
