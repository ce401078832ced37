"""Supervisor: all programs of an instance, started in order, kept running, stopped in reverse order.

A supervisor that was killed leaves its processes running. The next one adopts those that were started as it would start
them, ends the others first, and says so: there are never two of one kind.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from flexinfer.local.instance import Instance
from flexinfer.local.supervisor import process, record
from flexinfer.local.supervisor.keeper import Keeper
from flexinfer.local.supervisor.process import Process
from flexinfer.local.supervisor.program import MARKER_VARIABLE, Program
from flexinfer.local.supervisor.readiness import until_ready
from localkube import process_identity

Furnish: TypeAlias = Callable[[], Awaitable[None]]

STAGE_SECONDS = 20.0
"""How long a stage waits for the one before it; then it starts anyway, since every program can wait by itself."""
_LEFTOVER_GRACE = 10.0


class Supervisor:
    """The keepers of one instance."""

    def __init__(
        self, instance: Instance, programs: Sequence[Program], before: Mapping[int, Furnish] | None = None
    ) -> None:
        self._instance, self._before = instance, dict(before or {})
        self.keepers = {
            program.name: Keeper(program, instance.identity, instance.log(program.name), self._write)
            for program in programs
        }
        self.adopted: list[str] = []

    def _write(self) -> None:
        entries = tuple(keeper.entry for keeper in self.keepers.values())
        record.write(self._instance.record, record.Record(boot=record.boot_id(), entries=entries))

    async def adopt(self) -> None:
        """Take over what a former supervisor left running; end what would be started otherwise today."""
        leftovers: list[Process] = []
        former = record.read(self._instance.record)
        for entry in former.entries:
            found = process.adopt(entry.identity) if entry.identity else None
            if found is None:
                continue
            keeper = self.keepers.get(entry.name)
            if keeper is None or entry.fingerprint != keeper.program.fingerprint:
                leftovers.append(found)
            else:
                keeper.take(found, entry.restarts)
        leftovers += self._unrecorded({entry.identity.pid for entry in former.entries if entry.identity})
        self.adopted = [name for name, keeper in self.keepers.items() if keeper.process]
        await _ended(leftovers)
        self._write()

    def _unrecorded(self, known: set[int]) -> Iterator[Process]:
        """Take what was started in the very moment in which its supervisor was killed; yield what is one too many."""
        by_marker = {k.program.marker(self._instance.identity): k for k in self.keepers.values()}
        for told in process_identity.find(MARKER_VARIABLE):
            keeper = by_marker.get(told.value)
            if keeper is None or told.argv != keeper.program.argv or told.identity.pid in known:
                continue  # an engine inherits the variable, but not the command line
            found = process.adopt(told.identity)
            if found is not None and keeper.process is None:
                keeper.take(found, 0)
            elif found is not None:
                yield found

    async def keep(self) -> None:
        """Start what does not run, stage by stage, and keep everything running until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for stage in sorted({keeper.program.stage for keeper in self.keepers.values()}):
                if stage in self._before:
                    await self._before[stage]()
                now = [keeper for keeper in self.keepers.values() if keeper.program.stage == stage]
                for keeper in now:
                    tasks.create_task(keeper.keep())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STAGE_SECONDS):
                        await self.until_ready(keeper.program.name for keeper in now)

    async def until_ready(self, names: Iterable[str] | None = None) -> None:
        """Return once each of these programs, or all, has answered that it is ready."""
        wanted = list(self.keepers) if names is None else list(names)
        async with asyncio.TaskGroup() as tasks:
            for name in wanted:
                tasks.create_task(until_ready(self.keepers[name].program.probe))

    async def stop(self) -> None:
        """End all processes, the last stage first."""
        stages = sorted({keeper.program.stage for keeper in self.keepers.values()}, reverse=True)
        for stage in stages:
            ending = [keeper for keeper in self.keepers.values() if keeper.program.stage == stage]
            async with asyncio.TaskGroup() as tasks:
                for keeper in ending:
                    tasks.create_task(keeper.stop())


async def _ended(leftovers: Sequence[Process]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for leftover in leftovers:
            tasks.create_task(leftover.stop(_LEFTOVER_GRACE))
    for leftover in leftovers:
        leftover.close()


@contextlib.asynccontextmanager
async def supervised(
    instance: Instance, programs: Sequence[Program], before: Mapping[int, Furnish] | None = None
) -> AsyncIterator[Supervisor]:
    """Keep all programs running inside the block; on its end, stop all of them in order.

    `before` is stage -> what is to be done before its programs start, every time that this begins.
    """
    supervisor = Supervisor(instance, programs, before)
    await supervisor.adopt()
    try:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(supervisor.keep())
            try:
                yield supervisor
            finally:
                keeping.cancel()
    finally:
        await supervisor.stop()
