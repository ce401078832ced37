"""The reactor: turns a pure decision and its effects into a process.

    what arrives -> fold -> decide on the whole batch -> perform, one at a time per key -> fold the replies -> wait

It owns the fleet; nobody else changes it. Slow work leaves as a task and comes back as events, so a Model that drains for half a
minute delays no other. Deciding needs no memory: whatever was dropped because its key was busy is decided again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from flexinfer.contracts import events
from flexinfer.contracts.actions import Action, Recheck, Report
from flexinfer.contracts.events import AnyEvent
from flexinfer.contracts.fleet import Arrival, Fleet, fold
from flexinfer.runtime.api import MODELS, ApiError, AwayError, ConflictError, NotFoundError
from flexinfer.runtime.reporting import deleted, report
from flexinfer.runtime.runtime import Delivery, Interests, Lost, Runtime, Snapshot
from flexinfer.runtime.settings import Settings

log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0
_LONGEST_WAIT = 30.0
_SHORTEST_WAIT = 0.001
"""A deadline that is missed by a rounding must not become a busy loop."""


class Decide(Protocol):
    """A pure decision: what is known and what time it is, in; effects, out."""

    def __call__(self, fleet: Fleet, now: float) -> Iterable[Any]:
        """Yield actions; the same fleet and time give the same actions."""
        ...


class Perform(Protocol):
    """An effect: idempotent, and it reads what it acts on before it acts."""

    async def __call__(self, runtime: Runtime, fleet: Fleet, action: Any) -> Sequence[AnyEvent]:
        """Carry out one action; returns what the API replied."""
        ...


Tell = Callable[[AnyEvent], None]
Companion = Callable[[Runtime, Callable[[], Fleet], Tell], Awaitable[None]]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A deciding service: its two functions, what it hears, and what runs beside it."""

    name: str
    decide: Callable[..., Iterable[Any]]
    perform: Callable[..., Awaitable[Sequence[AnyEvent]]]
    interests: Interests
    companions: tuple[Companion, ...] = ()
    options: Callable[[Settings], Mapping[str, Any]] = lambda _settings: {}
    """What of the settings the decision is given, as keywords."""


async def no_effects(runtime: Runtime, fleet: Fleet, action: Any) -> Sequence[AnyEvent]:
    """Perform for a service whose only effects are reports."""
    raise TypeError(f"{runtime.name} has no effect {type(action).__name__} ({len(fleet.models)} Models)")


async def react(runtime: Runtime, service: Service) -> None:
    """Run a service until it is cancelled; a bug in a decision ends it."""
    async with asyncio.TaskGroup() as tasks:
        reactor = Reactor(runtime, service, tasks)
        tasks.create_task(reactor.listen())
        tasks.create_task(reactor.lead())
        for companion in service.companions:
            tasks.create_task(_run(companion(runtime, reactor.view, reactor.tell)))
        await reactor.run()


async def _run(work: Awaitable[None]) -> None:
    await work


class _Finished(msgspec.Struct, frozen=True):
    key: str
    events: Sequence[AnyEvent]


class _Led(msgspec.Struct, frozen=True):
    """News: this replica may act from now on."""


class _Past(msgspec.Struct):
    """What was last done for a key, how often the same again, and until when to leave it."""

    action: Any
    repeats: int = 0
    until: float = 0.0


class Reactor:
    """One loop that owns the fleet."""

    def __init__(self, runtime: Runtime, service: Service, tasks: asyncio.TaskGroup) -> None:
        self._runtime, self._service, self._tasks = runtime, service, tasks
        self._options = service.options(runtime.settings)
        self._inbox: asyncio.Queue[Delivery | _Finished | _Led] = asyncio.Queue()
        self._fleet = Fleet()
        self._seen_all = False
        self._busy: set[str] = set()
        self._past: dict[str, _Past] = {}

    def view(self) -> Fleet:
        """Return the fleet as it stands."""
        return self._fleet

    def tell(self, event: AnyEvent) -> None:
        """Take in a fact of the service's own."""
        self._inbox.put_nowait(Arrival(event, self._runtime.clock()))

    async def listen(self) -> None:
        """Hand what the bus delivers to the loop."""
        async for delivery in self._runtime.bus.deliveries(self._service.interests):
            self._inbox.put_nowait(delivery)

    async def lead(self) -> None:
        """Wake the loop whenever this replica's time to act has come."""
        while True:
            await self._runtime.lease_gained()
            self._inbox.put_nowait(_Led())

    async def run(self) -> None:
        """Fold, decide, perform, wait; for ever."""
        wait: float | None = None
        while True:
            self._take(await self._batch(wait))
            wait = self._act() if self._seen_all and self._runtime.holds_lease() else 1.0

    async def _batch(self, wait: float | None) -> list[Delivery | _Finished | _Led]:
        batch: list[Delivery | _Finished | _Led] = []
        try:
            async with asyncio.timeout(wait):
                batch.append(await self._inbox.get())
        except TimeoutError:
            return batch
        while not self._inbox.empty():
            batch.append(self._inbox.get_nowait())
        return batch

    def _take(self, batch: Iterable[Delivery | _Finished | _Led]) -> None:
        arrivals: list[Arrival] = []
        now = self._runtime.clock()
        for item in batch:
            match item:
                case Snapshot(arrivals=whole):
                    self._fleet, arrivals = self._anew(whole, now), []
                case Lost():
                    self._fleet = msgspec.structs.replace(self._fleet, connected=None)
                case Arrival(event=events.StatusChanged() as hint):
                    self._look(hint)
                case Arrival():
                    arrivals.append(item)
                case _Led():
                    log.info("this replica acts from now on")
                case _Finished(key=key, events=replies):
                    self._busy.discard(key)
                    arrivals += [Arrival(reply, now) for reply in replies]
        self._fleet = fold(self._fleet, arrivals)

    def _anew(self, whole: Sequence[Arrival], now: float) -> Fleet:
        """Return the picture of a replay; own facts and what the API told since stay."""
        former = self._fleet
        start = Fleet(
            seen=former.seen,
            gone=former.gone,
            since=former.since,
            lease_since=former.lease_since,
            probes=former.probes,
            wakes=former.wakes,
            written=former.written,
            connected=now,
        )
        fleet = fold(start, whole)
        newer = [
            Arrival(events.ModelObserved(model=m), now)
            for key, m in former.models.items()
            if key in fleet.models and m.metadata.version > fleet.models[key].metadata.version
        ]
        self._seen_all = True
        self._runtime.set_ready(True)
        return fold(fleet, newer)

    def _look(self, hint: events.StatusChanged) -> None:
        """GET a Model whose status somebody wrote, unless that version is known."""
        key = f"{hint.namespace}/{hint.name}"
        known = self._fleet.models.get(key)
        if known is not None and known.metadata.version >= hint.version:
            return
        self._tasks.create_task(self._refetch(hint.namespace, hint.name, f"get {key}"))

    async def _refetch(self, namespace: str, name: str, key: str) -> None:
        try:
            model = await self._runtime.cluster.get(MODELS, namespace, name)
        except ApiError as error:
            log.debug("%s: %s", key, error)
            return
        self._inbox.put_nowait(Arrival(events.ModelObserved(model=model), self._runtime.clock()))

    def _act(self) -> float:
        """Decide, start what may start, and return how long to wait at most, in seconds."""
        now = self._runtime.clock()
        until = now + _LONGEST_WAIT
        for action in self._service.decide(self._fleet, now, **self._options):
            if isinstance(action, Recheck):
                until = min(until, action.at)
            elif action.key not in self._busy:
                until = min(until, self._start(action, now))
        return max(_SHORTEST_WAIT, until - now)

    def _start(self, action: Action, now: float) -> float:
        """Perform an action beside the loop, unless the same was just done; returns when to look again."""
        past = self._past.get(action.key)
        if past is not None and past.action == action:
            if now < past.until:
                return past.until
            past.repeats += 1
        else:
            past = self._past[action.key] = _Past(action)
        past.until = now + min(_FIRST_PAUSE * 2**past.repeats, _LONGEST_PAUSE)
        self._busy.add(action.key)
        self._tasks.create_task(self._perform(action, past))
        return now + _LONGEST_WAIT

    async def _perform(self, action: Action, past: _Past) -> None:
        replies: Sequence[AnyEvent] = ()
        try:
            if isinstance(action, Report):
                replies = await report(self._runtime, action)
            else:
                replies = await self._service.perform(self._runtime, self._fleet, action)
        except (ConflictError, NotFoundError) as error:
            log.info("%s: %s; deciding anew", action.key, error)
            replies = await self._reread(action)
        except ApiError as error:
            away = isinstance(error, AwayError)
            log.log(logging.INFO if away else logging.WARNING, "%s: %s", action.key, error)
            past.until = self._runtime.clock() + (error.retry_after or (0.5 if away else 2.0))
        self._inbox.put_nowait(_Finished(action.key, replies))
        if len(self._past) > 4 * len(self._fleet.models) + 64:
            self._past = {k: p for k, p in self._past.items() if k in self._fleet.models}

    async def _reread(self, action: Action) -> Sequence[AnyEvent]:
        known = self._fleet.models.get(action.key)
        if known is None:
            return ()
        try:
            fresh = await self._runtime.cluster.get(MODELS, known.metadata.namespace, known.metadata.name)
        except NotFoundError:
            return (deleted(known),)
        except ApiError:
            return ()
        found: list[AnyEvent] = [events.ModelObserved(model=fresh)]
        return [deleted(known), *found] if fresh.uid != known.uid else found
