"""The scribe: writes what `judge` says, one write at a time for a Model, and again as long as there is something to say."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import ApiError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.watcher.judge import judge

log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0


class _Seen(msgspec.Struct):
    model: Model
    at: float
    news: asyncio.Event


class StatusReconciler:
    """Knows the newest state of each Model, from the watch and from the replies to its own writes."""

    def __init__(self, runtime: Runtime, tasks: asyncio.TaskGroup) -> None:
        self._runtime, self._tasks = runtime, tasks
        self._seen: dict[str, _Seen] = {}
        self._tended: set[str] = set()

    def see(self, model: Model) -> None:
        """Take in a Model, unless a newer state of it is known, and write what there is to say."""
        known, now = self._seen.get(model.key), self._runtime.clock()
        if known is None:
            known = self._seen[model.key] = _Seen(model, now, asyncio.Event())
        elif known.model.metadata.version < model.metadata.version:
            known.model, known.at = model, now
        known.news.set()
        if model.key not in self._tended:
            self._tended.add(model.key)
            self._tasks.create_task(self._tend(model.key))

    def forget(self, key: str) -> None:
        """Say that a Model is gone."""
        known = self._seen.pop(key, None)
        if known is not None:
            known.news.set()

    async def _tend(self, key: str) -> None:
        """Write until nothing is left to say."""
        pause, former = _FIRST_PAUSE, None
        while (seen := self._seen.get(key)) is not None:
            seen.news.clear()
            action = judge(seen.model, seen.at, self._runtime.clock())
            if action is None:
                break
            if isinstance(action, RequeueAt):
                await self._until(action.at, seen.news)
                continue
            written = await self._write(action)
            again = action.status == former
            if again or not written:  # refused, or it did not stick
                await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
                pause = min(2 * pause, _LONGEST_PAUSE)
            former = action.status
        self._tended.discard(key)

    async def _until(self, at: float, news: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(max(0.0, at - self._runtime.clock())):
                await news.wait()
        except TimeoutError:
            return

    async def _write(self, action: WriteStatus) -> bool:
        try:
            self._take(await write_status(self._runtime, action))
        except ApiError as error:
            log.info("%s: %s", action.key, error)
            return False
        return True

    def _take(self, replies: Sequence[AnyEvent]) -> None:
        for reply in replies:
            match reply:
                case events.ModelObserved(model=model) if self._is(model.key, model.uid):
                    self.see(model)
                case events.ModelDeleted(namespace=namespace, name=name, uid=uid):
                    if self._is(f"{namespace}/{name}", uid):
                        self.forget(f"{namespace}/{name}")
                case _:
                    continue

    def _is(self, key: str, uid: str) -> bool:
        known = self._seen.get(key)
        return known is not None and known.model.uid == uid
