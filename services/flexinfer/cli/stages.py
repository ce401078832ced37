"""Stages: the phases of a Model as the demo shows them, followed with `kubectl get --watch`."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.phase import Phase, phase_of
from flexinfer.api.reasons import Reason
from flexinfer.cli.errors import CommandError

CONDITIONS_PATH = '{.metadata.generation} {.status.conditions}{"\\n"}'
"""JSONPath of a Model that prints what `observed_phase` reads."""
IDLE, STARTING, READY = "idle", "starting", "ready"
STAGES: Mapping[str, str] = MappingProxyType(
    {
        Phase.IDLE: IDLE,
        Phase.PENDING: STARTING,
        Phase.LOADING: STARTING,
        Phase.PREEMPTED: STARTING,
        Phase.READY: READY,
        Phase.FAILED: "failed",
    }
)


class Stages:
    """The stage seen last; `report` is called once for each change."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._stage = ""
        self._changed = threading.Condition()

    def see(self, phase: str) -> None:
        """Take in a phase; one of the same stage is no change."""
        stage = STAGES.get(phase, phase)
        with self._changed:
            if stage and stage != self._stage:
                self._stage = stage
                self._report(stage)
                self._changed.notify_all()

    def wait_for(self, stage: str, seconds: float) -> None:
        """Return once that is the stage. Raises CommandError if it is not within `seconds`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._stage != stage:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise CommandError(
                        f"the Model was not {stage} within {seconds:.0f}s (now: {self._stage})"
                    )


def observed_phase(line: str) -> str:
    """Return the phase of a line that CONDITIONS_PATH prints; empty without conditions and while an engine is stopped.

    Derived from the conditions: `status.phase` is written only when a start has settled, so a short start would
    not be seen.
    """
    generation, _, json_text = line.strip().partition(" ")
    current = msgspec.json.decode(json_text, type=tuple[Condition, ...]) if json_text else ()
    ready = conditions.find(current, conditions.READY)
    if not current or (ready is not None and ready.reason in (Reason.DRAINING, Reason.STOPPING)):
        return ""
    return phase_of(current, int(generation))


@contextmanager
def followed(
    command: Sequence[str], environment: Mapping[str, str], take: Callable[[str], None]
) -> Iterator[None]:
    """Call `take` with each line that a command prints, in a thread, for the length of the block."""
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as watch:

        def read() -> None:
            for line in watch.stdout or ():
                take(line)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            watch.terminate()
            watch.wait()
            reader.join(timeout=5)
