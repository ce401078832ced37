"""StatusReconciler: writes the watcher's status of every Model, one write at a time.

It knows the newest state of a Model from the watch and from the replies to its own writes. What to write is
decided in `status_decision`.
"""

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum, auto

import msgspec

from flexinfer.api import names
from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import ApiError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import replace_status, write_status
from flexinfer.runtime.work_queue import failure_back_off
from flexinfer.state.actions import RequeueAt, WriteStatus, write_if_changed
from flexinfer.watcher.status_decision import due_next, next_write

log = logging.getLogger(__name__)
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.2, 3.0
_LOST_LOGGED = 1000
"""Characters of a log line about what cannot be read."""


class _Observed(msgspec.Struct):
    """The newest state of a Model, a signal of the next change, and since when which condition is `due_next`."""

    model: Model
    changed: asyncio.Event
    due: str = ""
    due_since: float | None = None


class _Outcome(Enum):
    """What became of a write: the API server holds it, refused it, or holds a newer Model for which it is not right."""

    WRITTEN = auto()
    REFUSED = auto()
    OVERTAKEN = auto()


class StatusReconciler:
    """The reconciler of all Models; each has one task while its status is not right."""

    def __init__(self, runtime: Runtime, tasks: asyncio.TaskGroup) -> None:
        self._runtime, self._tasks = runtime, tasks
        self._observed: dict[str, _Observed] = {}
        self._reconciling: set[str] = set()
        self._names = names.NameIndex()
        self._claims: dict[str, Sequence[str]] = {}  # key -> what that Model is called

    def upsert(self, model: Model, *, restored: bool = False) -> None:
        """Take a Model, unless a newer state of it is known, and write what its status lacks.

        `restored`: the API server went back, so that a newer state is void.
        """
        entry = self._observed.get(model.key)
        if entry is None:
            entry = self._observed[model.key] = _Observed(model, asyncio.Event())
        elif entry.model.metadata.version < model.metadata.version or restored:
            entry.model = model
        keys = self._claim(model.key, names.claims(entry.model))
        for key in (model.key, *keys):
            self._reconsider(key)

    def remove(self, key: str) -> None:
        """Forget a deleted Model."""
        entry = self._observed.pop(key, None)
        if entry is not None:
            entry.changed.set()
            for other in self._claim(key, ()):
                self._reconsider(other)

    def _reconsider(self, key: str) -> None:
        """Have the status of a Model decided again."""
        if key in self._observed:
            self._observed[key].changed.set()
            if key not in self._reconciling:
                self._reconciling.add(key)
                self._tasks.create_task(self._reconcile(key))

    def _claim(self, key: str, claims: Sequence[str]) -> Sequence[str]:
        """Note what a Model is called; returns the others that are or were called so, empty if nothing changed."""
        previous = self._claims.get(key, ())
        if claims == previous:
            return ()
        self._names.discard(key, previous)
        self._names.add(key, claims)
        self._claims[key] = claims
        if not claims:
            del self._claims[key]
        others = (k for claim in {*previous, *claims} for k in self._names.keys(claim))
        return tuple(dict.fromkeys(k for k in others if k != key))

    def _conflicts(self, model: Model) -> Sequence[str]:
        """Return the names of a Model that also mean another one."""
        keys = dict.fromkeys(k for claim in names.claims(model) for k in self._names.keys(claim))
        others = (self._observed[k].model for k in keys if k != model.key and k in self._observed)
        return names.conflicts(model, others)

    async def _reconcile(self, key: str) -> None:
        """Write until the status is right; an error that was not foreseen costs this Model a back-off, and the watcher nothing."""
        failures = 0
        while key in self._observed:
            try:
                await self._write_until_right(key)
                break
            except Exception as error:
                failures += 1
                seconds = failure_back_off(failures)
                log.exception("status of %s: %s: retrying in %.0f s", key, type(error).__name__, seconds)
                self._runtime.report_failure(key, error)
                await self._runtime.sleep(seconds)
        self._reconciling.discard(key)

    async def _write_until_right(self, key: str) -> None:
        """Write at once, but for a write that was refused, or that another writer reverts."""
        await self._make_readable(key)
        back_off, previous = _FIRST_BACK_OFF, None
        while (entry := self._observed.get(key)) is not None:
            entry.changed.clear()
            action = self._decide(entry)
            if action is None:
                break
            if isinstance(action, RequeueAt):
                await self._until(action.at, entry.changed)
                continue
            outcome = await self._write(action)
            if outcome == _Outcome.REFUSED or (outcome == _Outcome.WRITTEN and action.status == previous):
                await self._runtime.sleep(back_off * (0.5 + self._runtime.random()))
                back_off = min(2 * back_off, _LONGEST_BACK_OFF)
            previous = action.status if outcome == _Outcome.WRITTEN else previous

    def _decide(self, entry: _Observed) -> WriteStatus | RequeueAt | None:
        model, now, conflicts = entry.model, self._runtime.clock(), self._conflicts(entry.model)
        due = due_next(model, conflicts)
        if due != entry.due:
            entry.due, entry.due_since = due, now if due else None
        return next_write(model, entry.due_since, now, conflicts)

    async def _make_readable(self, key: str) -> None:
        """Take out of a Model's status what cannot be read of it, as of an earlier release: until then no owner can write."""
        while (entry := self._observed.get(key)) is not None and entry.model.unreadable_status:
            fields = "; ".join(entry.model.unreadable_status)[:_LOST_LOGGED]
            log.warning("Model %s: what cannot be read of its status is taken out: %s", key, fields)
            try:
                model = await replace_status(self._runtime, entry.model)
            except ApiError as error:
                log.info("status of %s not replaced: %s; retrying", key, error)
                await self._runtime.sleep(_LONGEST_BACK_OFF * (0.5 + self._runtime.random()))
            else:
                self._apply([events.ModelObserved(model=model)])

    async def _until(self, at: float, change: asyncio.Event) -> None:
        """Return at a time of the monotonic clock, or at the next change."""
        try:
            async with asyncio.timeout(max(0.0, at - self._runtime.clock())):
                await change.wait()
        except TimeoutError:
            return

    async def _write(self, action: WriteStatus) -> _Outcome:
        try:
            replies = await write_status(self._runtime, action)
        except ApiError as error:
            log.info("status of %s not written: %s; retrying", action.key, error)
            return _Outcome.REFUSED
        self._apply(replies)
        overtaken = any(
            isinstance(r, events.ModelObserved) and write_if_changed(r.model, action.status) for r in replies
        )
        return _Outcome.OVERTAKEN if overtaken else _Outcome.WRITTEN

    def _apply(self, replies: Sequence[AnyEvent]) -> None:
        for reply in replies:
            match reply:
                case events.ModelObserved(model=model) if self._is_current(model.key, model.uid):
                    self.upsert(model)
                case events.ModelRestored(model=model) if self._is_current(model.key, model.uid):
                    self.upsert(model, restored=True)
                case events.ModelDeleted(namespace=namespace, name=name, uid=uid):
                    if self._is_current(f"{namespace}/{name}", uid):
                        self.remove(f"{namespace}/{name}")
                case _:
                    continue

    def _is_current(self, key: str, uid: str) -> bool:
        entry = self._observed.get(key)
        return entry is not None and entry.model.uid == uid
