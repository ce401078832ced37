"""Keeper: keeps one program running, with a bounded back-off between a death and the next start."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from flexinfer.local.supervisor import process
from flexinfer.local.supervisor.process import Process
from flexinfer.local.supervisor.program import Program
from flexinfer.local.supervisor.readiness import Page
from flexinfer.local.supervisor.record import Entry

FIRST_PAUSE, LONGEST_PAUSE, CALM_SECONDS = 0.1, 5.0, 30.0


def next_pause(former: float, alive_seconds: float) -> float:
    """Return how long to wait before the next start: doubling while it keeps dying young."""
    if alive_seconds >= CALM_SECONDS or former <= 0:
        return FIRST_PAUSE
    return min(2 * former, LONGEST_PAUSE)


class Keeper:
    """One program and its present process. A successor starts only after the former one has been reaped."""

    def __init__(self, program: Program, instance: str, log: Path, changed: Callable[[], None]) -> None:
        self.program = program
        self._instance, self._log, self._changed = instance, log, changed
        self.process: Process | None = None
        self.restarts = 0
        self.begun = False
        """Whether its turn to start has come."""

    @property
    def entry(self) -> Entry:
        """What the record holds of it."""
        return Entry(
            name=self.program.name,
            identity=self.process.identity if self.process else None,
            fingerprint=self.program.fingerprint,
            restarts=self.restarts,
            adopted=self.process is not None and self.process.adopted,
        )

    def take(self, found: Process, restarts: int) -> None:
        """Go on with a process that a former supervisor started."""
        self.process, self.restarts = found, restarts

    async def keep(self) -> None:
        """Keep it running until cancelled; the process itself outlives that."""
        pause, self.begun = 0.0, True
        while True:
            if self.process is None:
                self._start()
            began = time.monotonic()
            await self._ended()
            pause = next_pause(pause, time.monotonic() - began)
            await asyncio.sleep(pause)
            self.restarts += 1

    async def stop(self) -> None:
        """End the process for good, if there is one; call it once `keep` has been cancelled."""
        if self.process is not None:
            await self.process.stop(self.program.grace, self.program.down_signal)
            self._forget()

    def _start(self) -> None:
        if isinstance(self.program.probe, Page) and self.program.probe.port_file:
            Path(self.program.probe.port_file).unlink(missing_ok=True)
        environment = self.program.environment(os.environ, self._instance)
        try:
            self.process = process.start(self.program.argv, environment, self._log)
        except OSError as error:  # not installed, no memory: a death like any other
            with self._log.open("a") as log:
                log.write(f"flexinfer: {self.program.name} does not start: {error}\n")
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
