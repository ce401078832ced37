"""One run of a model: Spin writes a checker in C, gcc builds it, and it visits every state."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.patience import patient

HERE = Path(__file__).parent
PROGRAMS = ("spin", "gcc")
_MEMORY_MB = 3000
"""Where a run stops by itself, as not complete."""
_LIMIT_SECONDS = patient(600)
_QUICK_SECONDS = 2
"""Up to this length of a run, gcc's optimisation takes longer than it saves."""


class Run(NamedTuple):
    """A model with its switches, as a command line has them: `NM=2 EV=1`.

    `seconds` is about what the run takes on one core. `depth` bounds the length of one history; it takes memory.
    """

    model: str
    switches: str = ""
    seconds: int = 1
    depth: int = 4_000_000

    def __str__(self) -> str:
        return f"{self.model} {self.switches}".strip()

    @property
    def cycles(self) -> bool:
        """Whether the run looks for histories that never settle."""
        return "LIVE=1" in self.switches.split()


class Result(NamedTuple):
    """What a run found.

    `error` is the counterexample's assertion, or that it comes to no rest; empty if there is none. `complete` tells
    whether every state was visited.
    """

    error: str
    states: int
    seconds: float
    complete: bool


def missing_programs() -> list[str]:
    """Return the programs that a run needs and this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def check(run: Run) -> Result:
    """Check one model. Raises CalledProcessError if it cannot be built, TimeoutExpired."""
    with tempfile.TemporaryDirectory(prefix="flexinfer-spin-") as folder:
        _build(run, Path(folder))
        arguments = [f"-m{run.depth}", "-n", *(["-a"] if run.cycles else [])]
        return _result(_output(Path(folder), "./pan", *arguments))


def _build(run: Run, folder: Path) -> None:
    shutil.copy(HERE / f"{run.model}.pml", folder)
    defines = [f"-D{switch}" for switch in run.switches.split()]
    _output(folder, "spin", *defines, "-a", f"{run.model}.pml")
    kind = "-DNOREDUCE" if run.cycles else "-DSAFETY"
    optimised = "-O2" if run.seconds > _QUICK_SECONDS else "-O0"
    options = ["-w", optimised, "-DCOLLAPSE", f"-DMEMLIM={_MEMORY_MB}", kind]
    _output(folder, "gcc", *options, "-o", "pan", "pan.c")


def _output(folder: Path, *command: str) -> str:
    return subprocess.run(
        command,
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_SECONDS,
    ).stdout


def _result(output: str) -> Result:
    """Read the report of a checker: `errors: 0`, `123 states, stored`, `pan: elapsed time 1.2 seconds`."""
    error = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", output, re.MULTILINE)
    errors, states = re.search(r"errors: (\d+)", output), re.search(r"(\d+) states, stored", output)
    elapsed = re.search(r"elapsed time ([\d.]+)", output)
    incomplete = "Search not completed" in output or "search depth too small" in output
    return Result(
        error=error[1] if error else "",
        states=int(states[1]) if states else 0,
        seconds=float(elapsed[1]) if elapsed else 0.0,
        complete=errors is not None and not incomplete,
    )
