"""The control loop: runs a controller.

    observations -> apply to the state -> decide -> perform, one at a time per key -> apply the replies -> wait

The loop owns the observed state and the component's own memory; nothing else changes them. Effects run as
tasks and return replies, so that a Model which drains for half a minute delays no other. An action whose key
is busy is dropped: the decision after its reply yields it again if it is still due. Leader election is
`leader_election`'s, reading NATS `nats.state_reader`'s, writing status `status_writer`'s.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from typing import Generic, TypeGuard

import msgspec

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.base import Event
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.controller import A, Controller, F, M
from flexinfer.runtime.kubernetes.api import MODELS, ApiError, ConflictError, NotFoundError, UnavailableError
from flexinfer.runtime.runtime import Delivery, Disconnected, Runtime, Snapshot
from flexinfer.runtime.status_writer import model_deleted, write_status
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

log = logging.getLogger(__name__)
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.05, 10.0
"""Seconds between equal actions of a key, doubling.

An effect that changes nothing must not become a storm.
"""
_UNAVAILABLE_BACK_OFF, _ERROR_BACK_OFF = 0.5, 2.0
_LONGEST_WAIT = 30.0
_SHORTEST_WAIT = 0.001
"""Seconds: a deadline that is missed by a rounding error must not become a busy loop."""


async def run_controller(runtime: Runtime, controller: Controller[A, F, M]) -> None:
    """Run a controller until it is cancelled.

    Raises an exception group if a decision or an effect has a bug.
    """
    async with asyncio.TaskGroup() as tasks:
        loop = ControllerLoop(runtime, controller, tasks)
        tasks.create_task(loop.subscribe())
        tasks.create_task(loop.follow_leadership())
        for companion in controller.companions:
            tasks.create_task(_awaited(companion(runtime, loop.remember)))
        await loop.run()


async def _awaited(work: Awaitable[None]) -> None:
    await work


class _Finished(msgspec.Struct, Generic[F], frozen=True):
    """An effect ended; `replies` is what it taught."""

    key: str
    replies: Sequence[AnyEvent | F]


class _Learned(msgspec.Struct, Generic[F], frozen=True):
    """A companion learned a fact."""

    fact: F
    at: float


class _Elected(msgspec.Struct, frozen=True):
    """The replica is the leader from now on."""


class _Attempt(msgspec.Struct, Generic[A]):
    """What was last performed for a key, how often in a row, and when its back-off ends."""

    action: A | WriteStatus
    repeats: int = 0
    until: float = 0.0


class ControllerLoop(Generic[A, F, M]):
    """One loop that owns the observed state and the memory."""

    def __init__(self, runtime: Runtime, controller: Controller[A, F, M], tasks: asyncio.TaskGroup) -> None:
        self._runtime, self._controller, self._tasks = runtime, controller, tasks
        self._inbox: asyncio.Queue[Delivery | _Finished[F] | _Learned[F] | _Elected] = asyncio.Queue()
        self._state = ObservedState()
        self._memory = controller.memory
        self._synced = False
        self._busy: set[str] = set()
        self._attempts: dict[str, _Attempt[A]] = {}

    def remember(self, fact: F) -> None:
        """Remember a fact of the component's own, and decide again."""
        self._inbox.put_nowait(_Learned(fact, self._runtime.clock()))

    async def subscribe(self) -> None:
        """Pass what NATS delivers to the loop."""
        async for delivery in self._runtime.bus.deliveries(self._controller.subscriptions):
            self._inbox.put_nowait(delivery)

    async def follow_leadership(self) -> None:
        """Resume the loop whenever this replica becomes the leader."""
        while True:
            await self._runtime.became_leader()
            self._inbox.put_nowait(_Elected())

    async def run(self) -> None:
        """Apply, decide, perform, wait; until cancelled."""
        wait: float | None = None
        while True:
            self._take(await self._batch(wait))
            wait = self._act() if self._synced and self._runtime.is_leader() else 1.0

    async def _batch(self, wait: float | None) -> list[Delivery | _Finished[F] | _Learned[F] | _Elected]:
        """Return everything that has arrived, after at most `wait` seconds."""
        batch: list[Delivery | _Finished[F] | _Learned[F] | _Elected] = []
        try:
            async with asyncio.timeout(wait):
                batch.append(await self._inbox.get())
        except TimeoutError:
            return batch
        while not self._inbox.empty():
            batch.append(self._inbox.get_nowait())
        return batch

    def _take(self, batch: Iterable[Delivery | _Finished[F] | _Learned[F] | _Elected]) -> None:
        observations: list[Observation] = []
        for item in batch:
            match item:
                case Snapshot(observations=snapshot):
                    self._state, observations = self._resynced(snapshot), []
                    self._forget()
                case Disconnected():
                    self._state = msgspec.structs.replace(self._state, connected_since=None)
                case Observation(event=events.StatusChanged() as hint):
                    self._refetch_if_older(hint)
                case Observation():
                    observations.append(item)
                case _Elected():
                    log.info("this replica is the leader")
                case _Learned(fact=fact, at=at):
                    self._memory = self._controller.remember(self._memory, fact, at)
                case _Finished():
                    observations += self._finished(item)
        self._apply(observations)

    def _finished(self, finished: _Finished[F]) -> list[Observation]:
        """Remember the facts among the replies of an effect; returns the events among them."""
        now = self._runtime.clock()
        self._busy.discard(finished.key)
        for reply in finished.replies:
            if _is_fact(reply):
                self._memory = self._controller.remember(self._memory, reply, now)
        return [Observation(reply, now) for reply in finished.replies if _is_event(reply)]

    def _apply(self, observations: Sequence[Observation]) -> None:
        before, self._state = self._state, apply_events(self._state, observations)
        if self._state.deleted_versions is not before.deleted_versions:
            self._forget()

    def _forget(self) -> None:
        """Drop what belongs to deleted Models."""
        models = self._state.models
        self._memory = self._controller.forget(self._memory, {model.uid for model in models.values()})
        if len(self._attempts) > 4 * len(models) + 64:
            self._attempts = {k: a for k, a in self._attempts.items() if k in models or k in self._busy}

    def _resynced(self, snapshot: Sequence[Observation]) -> ObservedState:
        """Return the state of a replay, with newer replies of the API server and what no stream holds."""
        previous, now = self._state, self._runtime.clock()
        start = ObservedState(
            first_seen=previous.first_seen,
            deleted_versions=previous.deleted_versions,
            changed_at=previous.changed_at,
            step_since=previous.step_since,
            wakes=previous.wakes,
            connected_since=now,
        )
        state = apply_events(start, snapshot)
        newer = [
            Observation(events.ModelObserved(model=model), now)
            for key, model in previous.models.items()
            if key in state.models and model.metadata.version > state.models[key].metadata.version
        ]
        self._synced = True
        self._runtime.set_ready(True)
        return apply_events(state, newer)

    def _refetch_if_older(self, hint: events.StatusChanged) -> None:
        """GET a Model whose status was written, unless that version was observed."""
        current = self._state.models.get(f"{hint.namespace}/{hint.name}")
        if current is None or current.metadata.version < hint.version:
            self._tasks.create_task(self._refetch(hint.namespace, hint.name))

    async def _refetch(self, namespace: str, name: str) -> None:
        try:
            model = await self._runtime.cluster.get(MODELS, namespace, name)
        except ApiError as error:
            log.debug("model %s/%s not read: %s", namespace, name, error)
            return
        self._inbox.put_nowait(Observation(events.ModelObserved(model=model), self._runtime.clock()))

    def _act(self) -> float:
        """Decide, start what is not busy, and return for how long to wait at most, in seconds."""
        if self._controller.observe is not None:
            self._controller.observe(self._state, self._memory)
        now = self._runtime.clock()
        until = now + _LONGEST_WAIT
        for action in self._controller.decide(self._state, self._memory, now):
            if isinstance(action, RequeueAt):
                until = min(until, action.at)
            elif action.key not in self._busy:
                until = min(until, self._start(action, now))
        return max(_SHORTEST_WAIT, until - now)

    def _start(self, action: A | WriteStatus, now: float) -> float:
        """Perform an action in a task, unless the same one is in its back-off.

        Returns when to decide again.
        """
        attempt = self._attempts.get(action.key)
        if attempt is not None and attempt.action == action:
            if now < attempt.until:
                return attempt.until
            attempt.repeats += 1
        else:
            attempt = self._attempts[action.key] = _Attempt(action)
        attempt.until = now + min(_FIRST_BACK_OFF * 2**attempt.repeats, _LONGEST_BACK_OFF)
        self._busy.add(action.key)
        self._tasks.create_task(self._perform(action, attempt))
        return now + _LONGEST_WAIT

    async def _perform(self, action: A | WriteStatus, attempt: _Attempt[A]) -> None:
        replies: Sequence[AnyEvent | F] = ()
        try:
            if isinstance(action, WriteStatus):
                replies = await write_status(self._runtime, action)
            else:
                replies = await self._controller.perform(self._runtime, action)
        except (ConflictError, NotFoundError) as error:
            log.info("%s: %s; the decision is repeated", action.key, error)
            replies = await self._reread(action.key)
        except ApiError as error:
            unavailable = isinstance(error, UnavailableError)
            log.log(logging.INFO if unavailable else logging.WARNING, "%s: %s", action.key, error)
            delay = error.retry_after or (_UNAVAILABLE_BACK_OFF if unavailable else _ERROR_BACK_OFF)
            attempt.until = self._runtime.clock() + delay
        self._inbox.put_nowait(_Finished(action.key, replies))

    async def _reread(self, key: str) -> Sequence[AnyEvent]:
        """GET a Model after a conflict; returns how it is now, or nothing without an answer."""
        observed = self._state.models.get(key)
        if observed is None:
            return ()
        try:
            current = await self._runtime.cluster.get(
                MODELS, observed.metadata.namespace, observed.metadata.name
            )
        except NotFoundError:
            return (model_deleted(observed),)
        except ApiError:
            return ()
        return _replacement(observed, current)


def _is_event(reply: AnyEvent | F) -> TypeGuard[AnyEvent]:
    """Tell an event from a fact of the component's own."""
    return isinstance(reply, Event)


def _is_fact(reply: AnyEvent | F) -> TypeGuard[F]:
    return not isinstance(reply, Event)


def _replacement(previous: Model, current: Model) -> list[AnyEvent]:
    """Return the events that lead from a Model to how it is now.

    Another uid means that the previous one was deleted.
    """
    observed = events.ModelObserved(model=current)
    return [model_deleted(previous), observed] if current.uid != previous.uid else [observed]
