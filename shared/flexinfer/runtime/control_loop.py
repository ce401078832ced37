"""The control loop: runs a controller.

    observations -> apply to the state -> the keys that they touch -> decide on each -> perform -> apply the replies

The loop owns the observed state and the component's own memory; nothing else changes them. Effects run as tasks and
return replies, so that a Model which drains for half a minute delays no other. While a status write is in flight the
state counts the Model as it will be, so that decisions on other keys do. An error that is not the API's costs its key
a back-off and never the process. What runs and waits is `work_queue`'s, what runs beside the loop `companions`', leader election `leader_election`'s, reading
NATS `nats.state_reader`'s, writing status `status_writer`'s.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Generic

import msgspec

from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.companions import accompany
from flexinfer.runtime.confirmation import Confirmation, Read, confirm
from flexinfer.runtime.controller import A, Controller, F, M, is_event, is_fact
from flexinfer.runtime.inbox import Elected, Finished, Inbox, Item, Learned, Started
from flexinfer.runtime.kubernetes.api import ApiError, ConflictError, NotFoundError, UnavailableError
from flexinfer.runtime.refetch import refetch, reread
from flexinfer.runtime.runtime import CaughtUp, Disconnected, Replaying, Runtime, Snapshot
from flexinfer.runtime.status_writer import write_status
from flexinfer.runtime.work_queue import Attempt, WorkQueue
from flexinfer.state.actions import CatchUp, RequeueAt, WriteStatus, written
from flexinfer.state.apply import apply_events, assume, resync, settle
from flexinfer.state.observed import Observation, ObservedState
from flexinfer.state.precedence import streamed_object

log = logging.getLogger(__name__)
_UNAVAILABLE_BACK_OFF, _ERROR_BACK_OFF, _STANDBY_WAIT = 0.5, 2.0, 1.0
_KEYS_AT_ONCE = 32
"""How many keys are decided on before the loop takes what has arrived meanwhile, and other tasks run."""
_SHORTEST_WAIT = 0.001
"""Seconds: a deadline that is missed by a rounding error must not become a busy loop."""


async def run_controller(runtime: Runtime, controller: Controller[A, F, M]) -> None:
    """Run a controller until it is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        loop = ControllerLoop(runtime, controller, tasks)
        tasks.create_task(loop.subscribe())
        tasks.create_task(loop.follow_leadership())
        tasks.create_task(confirm(runtime, loop.confirmation, loop.inbox.put, lambda: loop.state))
        for companion in controller.companions:
            tasks.create_task(accompany(runtime, companion, loop.remember))
        await loop.run()


class ControllerLoop(Generic[A, F, M]):
    """One loop that owns the observed state and the memory."""

    def __init__(self, runtime: Runtime, controller: Controller[A, F, M], tasks: asyncio.TaskGroup) -> None:
        self._runtime, self._controller, self._tasks = runtime, controller, tasks
        self.inbox: Inbox[F] = Inbox()
        self._state = ObservedState(caught_up_at=-math.inf)
        self._memory = controller.memory
        self._synced = False
        self._queue: WorkQueue[A | WriteStatus] = WorkQueue()
        self.confirmation = Confirmation()
        self._behind: set[str] = set()  # keys that wait until everything sent by now was read

    @property
    def state(self) -> ObservedState:
        """The observed state."""
        return self._state

    def remember(self, fact: F) -> None:
        """Remember a fact of the component's own, and decide on what it touches."""
        self.inbox.put(Learned(fact, self._runtime.clock()))

    async def subscribe(self) -> None:
        """Pass what NATS delivers to the loop."""
        async for delivery in self._runtime.bus.deliveries(self._controller.subscriptions):
            self.inbox.put(delivery)

    async def follow_leadership(self) -> None:
        """Resume the loop whenever this replica becomes the leader."""
        while True:
            await self._runtime.became_leader()
            self.inbox.put(Elected())

    async def run(self) -> None:
        """Apply, decide, perform, wait; until cancelled."""
        wait: float | None = None
        while True:
            for item in await self.inbox.batch(wait):
                self._take(item)
            wait = self._act() if self._synced and self._runtime.is_leader() else _STANDBY_WAIT
            if self._synced:
                self._controller.follow(self._state)

    def _take(self, item: Item[F]) -> None:
        match item:
            case Snapshot(observations=snapshot):
                self._resync(snapshot)
            case Disconnected() | Replaying():
                self._state = msgspec.structs.replace(self._state, connected_since=None)
                self._behind.clear()
                self._touch_all()
            case CaughtUp(at=at):
                self._catch_up(at)
            case Observation(event=events.StatusChanged() as hint):
                self._refetch_if_older(hint)
            case Observation():
                self._observe(item)
            case Read():
                self._take_read(item)
            case Elected():
                log.info("this replica is the leader")
                self._touch_all()
            case Learned(fact=fact, at=at):
                self._learn(fact, at)
            case Finished():
                self._finish(item)

    def _touch_all(self) -> None:
        self._queue.touch(sorted(self._controller.keys(self._state)))

    def _catch_up(self, at: float) -> None:
        """Decide on what waited for it."""
        self._state = msgspec.structs.replace(self._state, caught_up_at=at)
        behind, self._behind = self._behind, set()
        self._queue.touch(sorted(behind))

    def _learn(self, fact: F, at: float) -> None:
        self._memory = self._controller.remember(self._memory, fact, at)
        self._queue.touch(sorted(set(self._controller.touched_by(self._state, fact))))

    def _observe(self, observation: Observation) -> None:
        """Apply an observation; what it touches is dirty."""
        if observation.reply:
            self.confirmation.returned(observation.event)
        before, after = self._state, apply_events(self._state, [observation])
        self._state = after
        keys = self._touch(before, observation.event)
        if after.deleted_versions is not before.deleted_versions:
            self._forget(before, keys)

    def _take_read(self, item: Read) -> None:
        """Apply what was read of an object, unless another version of it was observed meanwhile."""
        if streamed_object(self._state, item.key) is item.observed:
            for event in item.events:
                self._observe(Observation(event, self._runtime.clock(), reply=True))

    def _touch(self, before: ObservedState, event: AnyEvent, but: str = "") -> list[str]:
        """Make what an event touches dirty, one key aside; returns those keys."""
        keys = sorted(set(self._controller.touched(before, self._state, event)) - {but})
        self._queue.touch(keys)
        return keys

    def _forget(self, before: ObservedState, keys: Iterable[str]) -> None:
        """Drop what belongs to what one event deleted, which it touched."""
        for uid in self._state.deleted_versions.keys() - before.deleted_versions.keys():
            self._memory = self._controller.forget(self._memory, uid)
        for key in keys:
            if key in before.models and key not in self._state.models:
                self._queue.forget(key)

    def _resync(self, snapshot: Sequence[Observation]) -> None:
        """Replace the state by a replay, and decide on everything."""
        before = self._state
        self._state = resync(before, snapshot, self._runtime.clock())
        uids = {model.uid for model in self._state.models.values()}
        for model in before.models.values():
            if model.uid not in uids:
                self._memory = self._controller.forget(self._memory, model.uid)
        self._queue.touch(sorted(self._controller.keys(before)))
        self._behind.clear()
        self._touch_all()
        self._synced = True
        self._runtime.set_ready(True)

    def _finish(self, result: Finished[F]) -> None:
        """Apply what an effect taught; its key is dirty."""
        if result.model:
            self._settle(result.model)
        now = self._runtime.clock()
        for reply in result.replies:
            if is_fact(reply):
                self._learn(reply, now)
            elif is_event(reply):
                self._observe(Observation(reply, now, reply=True))
        self._queue.finish(result.action_key)

    def _settle(self, key: str) -> None:
        """Count a Model as it is observed again; what that touches is dirty."""
        model = self._state.models.get(key)
        before, self._state = self._state, settle(self._state, key)
        if model is not None:
            self._touch(before, events.ModelObserved(model=model))

    def _refetch_if_older(self, hint: events.StatusChanged) -> None:
        """GET a Model whose status was written, unless that version was observed."""
        current = self._state.models.get(f"{hint.namespace}/{hint.name}")
        if current is None or current.metadata.version < hint.version:
            self._tasks.create_task(self._refetch(hint.namespace, hint.name))

    async def _refetch(self, namespace: str, name: str) -> None:
        observation = await refetch(self._runtime, namespace, name)
        if observation is not None:
            self.inbox.put(observation)

    def _act(self) -> float | None:
        """Decide on some keys, start what may run, and return for how long to wait at most, in seconds."""
        for observe in self._controller.observers:
            observe(self._state, self._memory)
        for _ in range(_KEYS_AT_ONCE):
            key = self._queue.pop(self._runtime.clock())
            if key is None:
                due = self._queue.next_due()
                return None if due is None else max(_SHORTEST_WAIT, due - self._runtime.clock())
            self._decide(key)
        return 0

    def _decide(self, key: str) -> None:
        """Decide on a key; one whose decision raises an error is left alone for a while."""
        now = self._runtime.clock()
        try:
            actions = list(self._controller.decide(self._state, self._memory, key, now))
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is this key's alone
            self._queue.wait(key, self._failed(key, error))
            return
        for action in actions:
            if isinstance(action, RequeueAt):
                self._queue.wait(key, max(action.at, now + _SHORTEST_WAIT))
            elif isinstance(action, CatchUp):
                self._fall_behind(key)
            else:
                self._start(key, action, now)

    def _fall_behind(self, key: str) -> None:
        """Decide on a key again once everything that was sent by now was read."""
        if not self._behind:
            self._runtime.bus.catch_up()
        self._behind.add(key)

    def _failed(self, key: str, error: Exception) -> float:
        """Report an error that is a bug or a value that was not foreseen; returns until when the key is left alone."""
        until = self._queue.failed(key, self._runtime.clock())
        seconds = until - self._runtime.clock()
        log.error("%s: %s: retrying in %.0f s", key, type(error).__name__, seconds, exc_info=error)
        self._runtime.report_failure(key, error)
        return until

    def _start(self, key: str, action: A | WriteStatus, now: float) -> None:
        attempt = self._queue.start(key, action, now)
        if attempt is None:
            return
        write = action if isinstance(action, WriteStatus) else self._controller.status_write(action)
        if write is not None:
            self._assume(write)
        model = write.key if write is not None else ""
        self._tasks.create_task(self._perform(Started(key, action, model), attempt))

    def _assume(self, write: WriteStatus) -> None:
        """Count the Model as it will be; what that touches is dirty, its own key aside."""
        if write.model.uid != getattr(self._state.models.get(write.key), "uid", None):
            return
        model = written(write)
        before, self._state = self._state, assume(self._state, model)
        self._touch(before, events.ModelObserved(model=model), but=write.key)

    async def _perform(self, execution: Started[A], attempt: Attempt[A | WriteStatus]) -> None:
        key, action = execution.key, execution.action
        replies: Sequence[AnyEvent | F] = ()
        try:
            replies = await self._effect(action)
            self._queue.succeeded(key)
        except (ConflictError, NotFoundError) as error:
            log.info("%s: %s; the decision is repeated", action.key, error)
            replies = await reread(self._runtime, self._state.models.get(action.key))
        except ApiError as error:
            unavailable = isinstance(error, UnavailableError)
            log.log(logging.INFO if unavailable else logging.WARNING, "%s: %s", action.key, error)
            delay = error.retry_after or (_UNAVAILABLE_BACK_OFF if unavailable else _ERROR_BACK_OFF)
            attempt.until = max(attempt.until, self._runtime.clock() + delay)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is this key's alone
            attempt.until = max(attempt.until, self._failed(key, error))
        self.inbox.put(Finished(action.key, execution.model, replies))

    async def _effect(self, action: A | WriteStatus) -> Sequence[AnyEvent | F]:
        if isinstance(action, WriteStatus):
            return await write_status(self._runtime, action)
        return await self._controller.perform(self._runtime, action)
