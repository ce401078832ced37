"""Supervisor: all programs of an instance, started in stages, kept running, and stopped in reverse order.

The processes of a supervisor that was killed keep running. The next supervisor adopts those whose program is unchanged and stops the
others before it starts new ones, so that no program ever runs twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from flexinfer.local.instance import Instance
from flexinfer.local.supervisor import process, record
from flexinfer.local.supervisor.process import Process
from flexinfer.local.supervisor.process_supervisor import ProcessSupervisor
from flexinfer.local.supervisor.program import MARKER_VARIABLE, Program
from flexinfer.local.supervisor.readiness import until_ready
from localkube import process_identity
from localkube.files import PatientWriter, keep_rotated

Provision: TypeAlias = Callable[[], Awaitable[None]]
AtRest: TypeAlias = Callable[[], Awaitable[None]]

STAGE_SECONDS = 20.0
"""How long a stage waits for the previous one; then it starts anyway, since every program retries by itself."""
_LEFTOVER_GRACE = 10.0


class Supervisor:
    """The supervised processes of one instance, by the names of their programs."""

    def __init__(
        self,
        instance: Instance,
        programs: Sequence[Program],
        before: Mapping[int, Provision] | None = None,
        launch: record.Started | None = None,
        at_rest: AtRest | None = None,
    ) -> None:
        self._at_rest = at_rest
        self._instance, self._before, self._started = instance, dict(before or {}), launch
        self._files = PatientWriter()
        self.processes = {
            program.name: ProcessSupervisor(
                program, instance.identity, instance.log(program.name), self._write
            )
            for program in programs
        }
        self.adopted: list[str] = []
        self.replaced: list[str] = []
        """The processes that an earlier supervisor left running and that were stopped, since their program has changed."""

    def _write(self) -> None:
        self._files.write(self._instance.record, self._record)

    def _record(self) -> bytes:
        entries = tuple(member.entry for member in self.processes.values())
        return record.encode(record.Record(boot=record.boot_id(), entries=entries, started=self._started))

    async def adopt(self) -> None:
        """Adopt the processes that an earlier supervisor left running; stop those whose program has changed, or all of another build."""
        leftovers: list[Process] = []
        previous = record.read(self._instance.record)
        same_build = self._is_same_build(previous)
        for entry in previous.entries:
            running = process.adopt(entry.identity) if entry.identity else None
            if running is None:
                continue
            member = self.processes.get(entry.name)
            if member is None or not same_build or entry.fingerprint != member.program.fingerprint:
                leftovers.append(running)
                self.replaced.append(entry.name)
            else:
                member.adopt(running, entry.restarts)
        leftovers += self._unrecorded({entry.identity.pid for entry in previous.entries if entry.identity})
        self.adopted = [name for name, member in self.processes.items() if member.process]
        await _stop_all(leftovers)
        self._write()

    def _is_same_build(self, previous: record.Record) -> bool:
        """Return whether the installation of this supervisor started what runs; one that starts nothing takes it as it is."""
        if self._started is None or previous.started is None:
            return True
        return previous.started.installation.build == self._started.installation.build

    def _unrecorded(self, recorded_pids: set[int]) -> Iterator[Process]:
        """Adopt processes whose supervisor was killed before it could record them; yield the surplus ones."""
        by_marker = {each.program.marker(self._instance.identity): each for each in self.processes.values()}
        for match in process_identity.find(MARKER_VARIABLE):
            member = by_marker.get(match.value)
            if member is None or match.argv != member.program.argv or match.identity.pid in recorded_pids:
                continue  # an engine inherits the variable, but not the command line
            running = process.adopt(match.identity)
            if running is not None and member.process is None:
                member.adopt(running, 0)
            elif running is not None:
                yield running

    async def run(self) -> None:
        """Start what does not run, stage by stage, and keep everything running until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._files.run())
            tasks.create_task(keep_rotated(lambda: self._instance.logs.glob("*.log")))
            for stage in self._stages():
                if stage in self._before:
                    await self._before[stage]()
                members = self._members(stage)
                for member in members:
                    tasks.create_task(member.run())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STAGE_SECONDS):
                        await self.until_ready(member.program.name for member in members)

    async def until_ready(self, names: Iterable[str] | None = None) -> None:
        """Return once each of these programs (default: all) is ready."""
        selection = list(self.processes) if names is None else list(names)
        async with asyncio.TaskGroup() as tasks:
            for name in selection:
                tasks.create_task(until_ready(self.processes[name].program.probe))

    async def stop(self) -> None:
        """Stop all processes, the last stage first.

        Before that what serves users, then the engines of the nodes while controllers still see it and say so: what is stored then is read by the
        next `up`, long before its controllers have looked.
        """
        async with asyncio.TaskGroup() as tasks:
            for member in self.processes.values():
                if member.program.serves:
                    tasks.create_task(member.stop())
        if self._at_rest is not None:
            resting = [name for name, member in self.processes.items() if member.rest()]
            if resting:
                await self._at_rest()
        for stage in reversed(self._stages()):
            async with asyncio.TaskGroup() as tasks:
                for member in self._members(stage):
                    tasks.create_task(member.stop())

    def _stages(self) -> list[int]:
        return sorted({member.program.stage for member in self.processes.values()})

    def _members(self, stage: int) -> list[ProcessSupervisor]:
        return [member for member in self.processes.values() if member.program.stage == stage]


async def _stop_all(leftovers: Sequence[Process]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for leftover in leftovers:
            tasks.create_task(leftover.stop(_LEFTOVER_GRACE))
    for leftover in leftovers:
        leftover.close()


@contextlib.asynccontextmanager
async def supervised(
    instance: Instance,
    programs: Sequence[Program],
    before: Mapping[int, Provision] | None = None,
    launch: record.Started | None = None,
    at_rest: AtRest | None = None,
) -> AsyncIterator[Supervisor]:
    """Keep all programs running inside the block; stop them in reverse order at its end.

    `before` is stage -> what has to be done each time before its programs start; `launch` is written into the record. `at_rest` returns once no
    engine runs and no Model says that it does.
    """
    supervisor = Supervisor(instance, programs, before, launch, at_rest)
    await supervisor.adopt()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(supervisor.run())
            try:
                yield supervisor
            finally:
                running.cancel()
    finally:
        await supervisor.stop()
