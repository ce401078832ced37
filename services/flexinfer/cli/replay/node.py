"""The node of a replay: proxy, launcher and engines, as far as a card's time and memory go. Pure.

An engine takes its whole memory when its process starts, and answers as many requests at once as its Model says; the others wait at the proxy.
One that must leave completes the requests that it has begun, for the drain deadline at most.
"""

from collections import deque

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, Holder
from flexinfer.cli.replay.agenda import (
    Agenda,
    Answered,
    Arrived,
    DrainEnded,
    Happening,
    Loaded,
    MemoryFreed,
    PodGone,
    Sampled,
)
from flexinfer.cli.replay.cluster import BEGIN, Cluster, Traffic
from flexinfer.cli.replay.objects import MemoryUse, condition, pod_of
from flexinfer.cli.replay.results import LEAVING, LOADING, SERVING, Served, Span
from flexinfer.cli.replay.trace import Request, Trace, TraceModel
from flexinfer.events.events import WorkloadObserved

DRAIN_SECONDS = 30.0
"""The default of FLEXINFER_DRAIN_SECONDS."""
_SAMPLE_SECONDS, _AWAITED_SECONDS = 1.0, 0.1
"""How often the agent reads the card, and how often while a holder that has stopped waits for its memory; what has changed is published at once."""


class Engine(msgspec.Struct, kw_only=True):
    """The engine of a turn; `since` is when its `step` began, `serving` are number -> request and when its answer began."""

    spec: TraceModel
    turn: int
    pod_uid: str
    since: float
    swapped: bool
    step: str = LOADING
    ready_at: float | None = None
    ended: bool = False
    serving: dict[int, tuple[Request, float]] = msgspec.field(default_factory=dict)


class Node:
    """Engines and the requests that wait for them; `served` and `spans` are what has happened."""

    def __init__(self, trace: Trace, cluster: Cluster, agenda: Agenda) -> None:
        self._cluster, self._agenda = cluster, agenda
        self._specs = {model.name: model for model in trace.models}
        self._release_seconds = trace.card.release_seconds
        self._waiting: dict[str, deque[Request]] = {name: deque() for name in self._specs}
        self._engines: dict[str, Engine] = {}
        self.served: list[Served] = []
        self.spans: list[Span] = []
        self.loads = 0

    def happen(self, happening: Happening) -> None:
        """Let something happen; an event of an engine that has ended since is none."""
        match happening:
            case Arrived(request=request):
                self._arrive(request)
            case Sampled():
                self._cluster.sample()
            case MemoryFreed(pod_uid=pod_uid):
                self._free(pod_uid)
            case _:
                engine = self._engines.get(happening.model)
                if engine is not None and engine.pod_uid == happening.pod_uid:
                    self._happen_to(engine, happening)

    def _happen_to(self, engine: Engine, happening: Answered | Loaded | DrainEnded | PodGone) -> None:
        match happening:
            case Loaded() if engine.step == LOADING:
                self._loaded(engine)
            case Answered(number=number) if number in engine.serving:
                self._answered(engine, number, cut=False)
            case DrainEnded() if not engine.ended:
                for number in list(engine.serving):
                    self._answered(engine, number, cut=True)
            case PodGone():
                self._gone(engine)
            case _:
                return

    def follow(self, swap_turns: set[int]) -> None:
        """Start and stop engines as the SharedGroup says; `swap_turns` are the turns for which others left."""
        for name in self._specs:
            model, engine = self._cluster.model(name), self._engines.get(name)
            granted = self._cluster.group.holder(model.uid)
            holds = granted is not None and granted.step == GRANTED and model.is_true(conditions.GRANTED)
            if engine is None and granted is not None and holds:
                self._start(name, granted, swapped=granted.turn in swap_turns)
            elif engine is not None and engine.step != LEAVING and not holds:
                self._leave(engine)
            elif engine is None and granted is not None and granted.step == RELEASING:
                self._return(name, granted.turn)

    def _arrive(self, request: Request) -> None:
        self._waiting[request.model].append(request)
        self._serve(request.model)
        self._count(request.model)

    def _serve(self, name: str) -> None:
        """Let the engine begin with as many requests as it answers at once."""
        engine, waiting = self._engines.get(name), self._waiting[name]
        if engine is None or engine.step != SERVING:
            return
        now = self._cluster.now
        while waiting and len(engine.serving) < engine.spec.parallel:
            request = waiting.popleft()
            engine.serving[request.number] = (request, now)
            self._agenda.enter(now + request.service_seconds, Answered(name, engine.pod_uid, request.number))

    def _count(self, name: str) -> None:
        """Report the requests of a Model as they are now: one has just begun or ended."""
        engine = self._engines.get(name)
        in_flight = len(engine.serving) if engine is not None else 0
        traffic = Traffic(self._cluster.now, in_flight, len(self._waiting[name]))
        self._cluster.traffic[name] = traffic
        self._cluster.report(name)

    def _answered(self, engine: Engine, number: int, *, cut: bool) -> None:
        request, started_at = engine.serving.pop(number)
        name, now = request.model, self._cluster.now
        loaded_before = engine.ready_at is not None and engine.ready_at - BEGIN <= request.at
        self.served.append(
            Served(
                number=number,
                model=name,
                at=request.at,
                started=started_at - BEGIN,
                ended=now - BEGIN,
                swapped=engine.swapped and not loaded_before,
                cut=cut,
            )
        )
        self._serve(name)
        self._count(name)
        if engine.step == LEAVING and not engine.serving:
            self._end(engine)

    def _start(self, name: str, holder: Holder, *, swapped: bool) -> None:
        """Start the engine of a turn: it has its memory from now on."""
        spec, uid = self._specs[name], f"pod-{holder.turn}"
        self._engines[name] = Engine(
            spec=spec, turn=holder.turn, pod_uid=uid, since=self._cluster.now, swapped=swapped
        )
        self.loads += 1
        self._write_ready(name, Reason.LOADING, BackendStatus(turn=holder.turn, pod_uid=uid))
        self._observe_pod(name, uid, holder.turn)
        self._cluster.processes[uid] = MemoryUse(pid=holder.turn, memory_mb=spec.memory_mb, pod_uid=uid)
        self._sample_soon()
        self._agenda.enter(self._cluster.now + spec.load_seconds, Loaded(name, uid))

    def _return(self, name: str, turn: int) -> None:
        """Return a turn that was taken back before its engine was started."""
        backend = self._cluster.model(name).status.backend
        if backend is None or backend.turn != turn:
            load_seconds = backend.load_seconds if backend is not None else 0.0
            self._write_ready(name, Reason.STOPPED, BackendStatus(turn=turn, load_seconds=load_seconds))

    def _loaded(self, engine: Engine) -> None:
        self._step(engine, SERVING)
        engine.ready_at = self._cluster.now
        backend = BackendStatus(
            turn=engine.turn, pod_uid=engine.pod_uid, load_seconds=engine.spec.load_seconds
        )
        self._write_ready(engine.spec.name, Reason.READY, backend)
        self._serve(engine.spec.name)
        self._count(engine.spec.name)

    def _leave(self, engine: Engine) -> None:
        """Drain an engine whose turn ends, or stop it at once if it has nothing in flight."""
        self._step(engine, LEAVING)
        name = engine.spec.name
        self._write_ready(name, Reason.DRAINING, BackendStatus(turn=engine.turn, pod_uid=engine.pod_uid))
        if engine.serving:
            self._agenda.enter(self._cluster.now + DRAIN_SECONDS, DrainEnded(name, engine.pod_uid))
        else:
            self._end(engine)

    def _end(self, engine: Engine) -> None:
        engine.ended = True
        self._agenda.enter(
            self._cluster.now + engine.spec.stop_seconds, PodGone(engine.spec.name, engine.pod_uid)
        )

    def _gone(self, engine: Engine) -> None:
        """Return the turn of an engine whose Pod is gone; the driver gives its memory back later."""
        name, now = engine.spec.name, self._cluster.now
        del self._engines[name]
        process = self._cluster.processes[engine.pod_uid]
        self._cluster.processes[engine.pod_uid] = msgspec.structs.replace(process, pod_uid="")
        self._cluster.observe(
            WorkloadObserved(namespace=self._cluster.model(name).metadata.namespace, name=name)
        )
        self._write_ready(
            name, Reason.STOPPED, BackendStatus(turn=engine.turn, load_seconds=engine.spec.load_seconds)
        )
        freed_at = now + self._release_seconds
        self.spans.append(self._span(engine, freed_at))
        self._agenda.enter(freed_at, MemoryFreed(engine.pod_uid))

    def _free(self, pod_uid: str) -> None:
        del self._cluster.processes[pod_uid]
        self._sample_soon()

    def _sample_soon(self) -> None:
        """Enter the agent's next reading of the card; one that is waited for comes soon, at any time."""
        now = self._cluster.now
        if any(holder.step == STOPPED for holder in self._cluster.group.status.holders):
            self._agenda.enter(now + _AWAITED_SECONDS, Sampled())
        else:
            self._agenda.enter((now // _SAMPLE_SECONDS + 1) * _SAMPLE_SECONDS, Sampled())

    def _step(self, engine: Engine, step: str) -> None:
        self.spans.append(self._span(engine, self._cluster.now))
        engine.step, engine.since = step, self._cluster.now

    def _span(self, engine: Engine, end: float) -> Span:
        return Span(
            model=engine.spec.name,
            step=engine.step,
            begin=engine.since - BEGIN,
            end=end - BEGIN,
            memory_mb=engine.spec.memory_mb,
        )

    def close(self) -> None:
        """End the spans of the engines that still run."""
        self.spans += [self._span(engine, self._cluster.now) for engine in self._engines.values()]

    def _observe_pod(self, name: str, uid: str, turn: int) -> None:
        model = self._cluster.model(name)
        pods = (pod_of(model, uid, turn),)
        self._cluster.observe(WorkloadObserved(namespace=model.metadata.namespace, name=name, pods=pods))

    def _write_ready(self, name: str, reason: Reason, backend: BackendStatus) -> None:
        ready = condition(conditions.READY, reason == Reason.READY, reason)

        def change(model: Model) -> Model:
            others = tuple(c for c in model.status.conditions if c.type != conditions.READY)
            status = msgspec.structs.replace(model.status, conditions=(*others, ready), backend=backend)
            return msgspec.structs.replace(model, status=status)

        self._cluster.write(name, change)
