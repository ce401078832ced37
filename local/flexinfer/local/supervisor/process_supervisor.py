"""ProcessSupervisor: keeps one program running, with a bounded back-off between its end and the next start."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from flexinfer.local.supervisor import process as processes
from flexinfer.local.supervisor.process import Process
from flexinfer.local.supervisor.program import Program
from flexinfer.local.supervisor.readiness import Page
from flexinfer.local.supervisor.record import Entry

FIRST_DELAY, MAX_DELAY, RESET_SECONDS = 0.1, 5.0, 30.0


def next_delay(previous: float, alive_seconds: float) -> float:
    """Return the seconds before the next start: doubled after each end within RESET_SECONDS of its start."""
    if alive_seconds >= RESET_SECONDS or previous <= 0:
        return FIRST_DELAY
    return min(2 * previous, MAX_DELAY)


class ProcessSupervisor:
    """One program and its current process. The next process starts only after the previous one has been reaped."""

    def __init__(self, program: Program, instance: str, log: Path, on_change: Callable[[], None]) -> None:
        self.program = program
        self._instance, self._log, self._changed = instance, log, on_change
        self.process: Process | None = None
        self.restarts = 0
        self.started = False
        """Whether its stage has been reached."""

    @property
    def entry(self) -> Entry:
        """Its entry in the record of processes."""
        return Entry(
            name=self.program.name,
            identity=self.process.identity if self.process else None,
            fingerprint=self.program.fingerprint,
            restarts=self.restarts,
            adopted=self.process is not None and self.process.adopted,
        )

    def adopt(self, process: Process, restarts: int) -> None:
        """Continue with a process that an earlier supervisor started."""
        self.process, self.restarts = process, restarts

    async def run(self) -> None:
        """Keep the process running until cancelled, which leaves it running."""
        delay, self.started = 0.0, True
        while True:
            if self.process is None:
                self._start()
            start = time.monotonic()
            await self._ended()
            delay = next_delay(delay, time.monotonic() - start)
            await asyncio.sleep(delay)
            self.restarts += 1

    async def stop(self) -> None:
        """Stop the process if there is one; to be called once `run` has been cancelled."""
        if self.process is not None:
            await self.process.stop(self.program.grace, self.program.down_signal)
            self._forget()

    def rest(self) -> bool:
        """Tell a node to stop its engines; returns whether it was told. Its process runs on."""
        number = self.program.rest_signal
        if number is None or self.process is None or not self.process.catches(number):
            return False
        self.process.send(number)
        return True

    def _start(self) -> None:
        if isinstance(self.program.probe, Page) and self.program.probe.port_file:
            Path(self.program.probe.port_file).unlink(missing_ok=True)
        environment = self.program.environment(os.environ, self._instance)
        try:
            self.process = processes.start(self.program.argv, environment, self._log)
        except OSError as error:  # not installed, no memory: retried like an end
            with contextlib.suppress(OSError), self._log.open("a") as log:
                log.write(f"flexinfer: {self.program.name} cannot be started: {error}\n")
        self._changed()

    async def _ended(self) -> None:
        if self.process is not None:
            await self.process.ended()
            self._forget()

    def _forget(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None
            self._changed()
