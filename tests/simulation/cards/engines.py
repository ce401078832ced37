"""The engines of a history of cards: placer, reaper, launcher and proxy, as far as the memory of cards and its queue go."""

from functools import partial

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import BackendStatus
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, Holder
from flexinfer.events import events
from flexinfer.events.workload import PodFacts
from tests.simulation.cards import models
from tests.simulation.cards.arbiter import Arbiter
from tests.simulation.cards.models import IDLE_SECONDS
from tests.simulation.cards.processes import Process
from tests.simulation.cards.world import CARDS, LOAD_SECONDS, NODE, World

UNKNOWN_MB = 3000


class Engine(msgspec.Struct, kw_only=True):
    """The engine of a turn; `ready` once it has loaded, `leaving` once it drains."""

    turn: int
    pod_uid: str
    pid: int
    ready: bool = False
    leaving: bool = False


class Engines:
    """Models with the engines that they have, and the requests for them."""

    def __init__(self, world: World, arbiter: Arbiter) -> None:
        self._world, self._arbiter = world, arbiter
        self._engines: dict[str, Engine] = {}
        self._starting: set[str] = set()
        self._opened: dict[str, int] = {}  # Model -> the last turn that opened a Pod: it opens no other
        self.waiting: dict[str, float] = {}  # Model -> since when a request waits
        self._serving: set[str] = set()
        self._asked: dict[str, float] = {}
        self._verified: dict[str, float] = {}  # Model -> when it had made its initial start
        self.calm, self.served = False, 0

    # --- Models

    def create(self, name: str, *, verified: bool) -> None:
        """Create a Model, placed on a card or on both; one that is not `verified` is to make its initial start."""
        model = models.created(name, self._world.chance)
        self._verified |= {name: float("-inf")} if verified else {}
        self._world.traffic.setdefault(name, (0, 0))
        self._world.observe(events.ModelObserved(model=model))
        for kind in (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED):
            self._say(name, kind, conditions.TRUE, kind)
        self._want(name)

    def edit(self, name: str) -> None:
        """Change group, priority or size of a Model; where it is placed stays."""
        model = self._world.model(name)
        if model is None or model.spec.gpu is None:
            return
        self._world.write(models.edited(model, self._world.chance))

    def rest(self, name: str) -> None:
        """Let a Model that always runs be scaled to zero from now on: it would keep its cards from the other group without end."""
        model = self._world.model(name)
        if model is not None and not model.spec.serverless.enabled:
            spec = msgspec.structs.replace(
                model.spec, serverless=msgspec.structs.replace(model.spec.serverless, enabled=True)
            )
            self._world.write(msgspec.structs.replace(model, spec=spec))

    # --- requests

    def ask(self, name: str) -> None:
        """Send a request."""
        if self._world.model(name) is None:
            return
        self.waiting.setdefault(name, self._world.now)
        self._asked[name] = self._world.now
        self._world.note_request(name)
        self._serve(name)
        self._count(name)
        self._want(name)

    def _serve(self, name: str) -> None:
        engine = self._engines.get(name)
        if engine is None or not engine.ready or engine.leaving or name not in self.waiting:
            return
        del self.waiting[name]
        self.served += 1
        self._serving.add(name)
        self._world.enter(self._world.chance.choice([0.5, 3.0, 20.0]), lambda: self._answered(name, engine))

    def _answered(self, name: str, engine: Engine) -> None:
        if name in self._serving and self._engines.get(name) is engine:
            self._serving.discard(name)
            self._asked[name] = self._world.now
            self._count(name)
            if engine.leaving:
                self._end(name, engine)
            self._world.enter(IDLE_SECONDS + 0.1, lambda: self._want(name))

    def _count(self, name: str) -> None:
        self._world.count(name, int(name in self._serving), int(name in self.waiting))

    def _want(self, name: str) -> None:
        """Write Wanted as the reaper does: by requests, and for a while after them."""
        model = self._world.model(name)
        if model is None:
            return
        busy = name in self.waiting or name in self._serving or not model.spec.serverless.enabled
        since = self._world.now - IDLE_SECONDS
        if busy or self._asked.get(name, since) > since:
            self._say(name, conditions.WANTED, conditions.TRUE, Reason.REQUESTED)
        elif name not in self._verified:
            status, reason = conditions.TRUE, Reason.FIRST_START
            if self._is_verifying(but=name):
                status, reason = conditions.FALSE, Reason.FIRST_START_QUEUED
            self._say(name, conditions.WANTED, status, reason)
        elif self._verified[name] > since:
            self._say(name, conditions.WANTED, conditions.TRUE, Reason.ACTIVE)
        else:
            self._say(name, conditions.WANTED, conditions.FALSE, Reason.IDLE)

    def _is_verifying(self, but: str) -> bool:
        """Return whether another Model makes its initial start; one that is queued for its cards does not."""
        models = [m for m in self._world.state.models.values() if m.metadata.name != but]
        return any(
            (wanted := model.condition(conditions.WANTED)) is not None
            and wanted.reason == Reason.FIRST_START
            and model.is_true(conditions.GRANTED)
            for model in models
        )

    def _say(
        self, name: str, kind: str, status: str, reason: str, backend: BackendStatus | None = None
    ) -> None:
        model = self._world.model(name)
        if model is not None:
            self._world.condition(model, kind, status, reason, backend)

    # --- engines

    def follow(self) -> None:
        """Start and stop engines as the SharedGroups say, and let those begin whose initial start is still to come."""
        for new in list(self._world.state.models.values()):
            if new.metadata.name not in self._verified:
                self._want(new.metadata.name)
        holders = {h.model: h for g in self._world.state.groups.values() for h in g.status.holders if h.model}
        for name in sorted({*holders, *self._engines}):
            model, engine, holder = self._world.model(name), self._engines.get(name), holders.get(name)
            granted = model is not None and model.is_true(conditions.GRANTED)
            holds = granted and holder is not None and holder.step == GRANTED
            opened = holder is not None and self._opened.get(name, 0) >= holder.turn
            if engine is None and holds and holder is not None and name not in self._starting and not opened:
                self._starting.add(name)
                delay = self._world.chance.choice([0.0, 0.2, 2.0])
                self._world.enter(delay, partial(self._start, name, holder))
            elif engine is not None and not engine.leaving and not holds:
                self._leave(name, engine)
            elif (
                engine is None
                and holder is not None
                and holder.step == RELEASING
                and name not in self._starting
            ):
                self._returned(name, holder.turn)

    def _start(self, name: str, holder: Holder) -> None:
        """Open the gate of a turn, if it is still granted."""
        self._starting.discard(name)
        world, model = self._world, self._world.model(name)
        groups = world.state.groups.values()
        current = next((h for g in groups if (h := g.holder(holder.uid)) is not None), None)
        if model is None or current is None or (current.turn, current.step) != (holder.turn, GRANTED):
            self.follow()
            return
        world_mb = holder.devices[0].memory_mb if holder.devices else 0
        counted = world_mb or UNKNOWN_MB
        uid = f"pod-{name}-{holder.turn}"
        process = Process(
            cards=holder.uuids or CARDS,
            mb=counted * world.chance.choice([1, 3, 10]) // 10,
            counted_mb=counted,
            owner=name,
            pod_uid=uid,
            alone=not world_mb,
            sampled_at=self._arbiter.sampled.get(holder.uid, 0.0),
        )
        self._opened[name] = holder.turn
        engine = self._engines[name] = Engine(turn=holder.turn, pod_uid=uid, pid=world.begin(process))
        self._say(
            name,
            conditions.READY,
            conditions.FALSE,
            Reason.LOADING,
            BackendStatus(turn=holder.turn, pod_uid=uid),
        )
        pod = PodFacts(
            name=f"{name}-0",
            uid=uid,
            model_uid=model.uid,
            turn=holder.turn,
            node=NODE,
            phase="Running",
            running=True,
        )
        world.observe(events.WorkloadObserved(namespace="default", name=name, pods=(pod,)))
        world.enter(world.chance.choice([1.0, 5.0, 12.0]), lambda: self._loaded(name, engine, counted))

    def _loaded(self, name: str, engine: Engine, counted_mb: int) -> None:
        """Let an engine be ready, with all its memory; now and then that is more than was expected."""
        if self._engines.get(name) is not engine or engine.leaving:
            return
        world = self._world
        grown = counted_mb * 13 // 10 if world.chance.random() < 0.1 else counted_mb
        world.grow(engine.pid, grown)
        world.ready_since[name], engine.ready = world.now, True
        self._verified.setdefault(name, world.now)
        backend = BackendStatus(turn=engine.turn, pod_uid=engine.pod_uid, load_seconds=LOAD_SECONDS)
        self._say(name, conditions.READY, conditions.TRUE, Reason.READY, backend)
        self._serve(name)
        self._count(name)
        self._want(name)
        world.enter(IDLE_SECONDS + 0.1, lambda: self._want(name))

    def _leave(self, name: str, engine: Engine) -> None:
        engine.leaving, world = True, self._world
        world.ready_since.pop(name, None)
        backend = BackendStatus(turn=engine.turn, pod_uid=engine.pod_uid)
        self._say(name, conditions.READY, conditions.FALSE, Reason.DRAINING, backend)
        if name not in self._serving:
            self._end(name, engine)
            return
        world.enter(30.0, lambda: self._answered(name, engine))

    def _end(self, name: str, engine: Engine) -> None:
        self._world.enter(self._world.chance.choice([0.1, 1.0]), lambda: self._gone(name, engine))

    def _gone(self, name: str, engine: Engine) -> None:
        """Return a turn; the driver gives the memory back later."""
        world = self._world
        if self._engines.get(name) is not engine:
            return
        del self._engines[name]
        self._serving.discard(name)
        world.end(engine.pid, 0.5 if self.calm else world.chance.choice([0.0, 0.5, 3.0, 20.0]))
        world.observe(events.WorkloadObserved(namespace="default", name=name))
        holders = [h for g in world.state.groups.values() for h in g.status.holders if h.model == name]
        if any((h.turn, h.step) == (engine.turn, GRANTED) for h in holders):  # its one Pod is gone
            gone = BackendStatus(turn=engine.turn, pod_uid=engine.pod_uid, load_seconds=LOAD_SECONDS)
            self._say(name, conditions.READY, conditions.FALSE, Reason.STOPPED, gone)
        else:
            self._returned(name, engine.turn)
        self._count(name)
        self._want(name)

    def _returned(self, name: str, turn: int) -> None:
        model = self._world.model(name)
        backend = model.status.backend if model is not None else None
        if backend is None or (backend.turn, backend.pod_uid) != (turn, ""):
            stopped = BackendStatus(turn=turn, load_seconds=LOAD_SECONDS)
            self._say(name, conditions.READY, conditions.FALSE, Reason.STOPPED, stopped)

    def stuck(self) -> list[str]:
        """Return the holders that have not given back what they should."""
        groups = self._world.state.groups.values()
        return [
            f"{h.label} {h.step}" for g in groups for h in g.status.holders if h.step in (RELEASING, STOPPED)
        ]
