"""Tests of a changed copy of the tree, which is thrown away afterwards; the tree itself is never changed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("shared", "services", "local", ".")
HISTORIES = ("tests/simulation/test_histories.py",)
JOBS = min(2, os.cpu_count() or 1)
"""How many trials run at a time, unless it is said."""
SIMULATION_SECONDS, UNIT_SECONDS = 1800.0, 900.0
"""The limit of one run. What does not end by then says nothing: a test that notices has a limit of its own."""


class Verdict(Enum):
    """What the tests say of a change."""

    CAUGHT = "caught"
    MISSED = "missed"
    ENDLESS = "no end"
    BROKEN = "does not run"

    def __str__(self) -> str:
        return self.value


@contextlib.contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """Yield a copy of what git knows or would take, with the changes that are not committed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    with tempfile.TemporaryDirectory(prefix="flexinfer-mutant-") as folder:
        for name in filter(None, listing.split("\0")):
            if (ROOT / name).exists():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, Path(folder) / name, follow_symlinks=False)
        yield Path(folder)


def simulate(tree: Path, seeds: int) -> Verdict:
    """Play the first seeds; ends at the first problem."""
    return run_tests(tree, HISTORIES, SIMULATION_SECONDS, {"FLEXINFER_SEEDS": str(seeds)})


def play_cards(tree: Path, count: int) -> tuple[Verdict, str]:
    """Play histories of cards up to the first problem; returns that too: its seed, and the law that it breaks."""
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", "tests.simulation.cards", str(count), "--stop"]
        verdict = _run(command, tree, SIMULATION_SECONDS, {}, output)
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.startswith("seed ")]
    if verdict is Verdict.CAUGHT and not lines:
        return Verdict.BROKEN, ""  # it ended with an error of its own
    return verdict, lines[0] if lines else ""


def run_tests(
    tree: Path, tests: Sequence[str], limit: float = UNIT_SECONDS, settings: dict[str, str] | None = None
) -> Verdict:
    """Run tests of a copy up to the first failure; modules are imported from the copy alone."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    return _run(command, tree, limit, settings or {}, None)


def _run(
    command: Sequence[str], tree: Path, limit: float, settings: dict[str, str], output: IO[str] | None
) -> Verdict:
    paths = os.pathsep.join(str(tree / root) for root in SOURCE_ROOTS)
    environment = os.environ | {"PYTHONPATH": paths} | settings
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=output if output is not None else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return _verdict(process.wait(limit))
        except subprocess.TimeoutExpired:
            return Verdict.ENDLESS
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that the tests have left


def _verdict(code: int) -> Verdict:
    """Return what an exit code of pytest, or of histories, means: 0 passed, 1 failed, else it could not test."""
    return {0: Verdict.MISSED, 1: Verdict.CAUGHT}.get(code, Verdict.BROKEN)


def pool(jobs: int) -> ThreadPoolExecutor:
    """Return a pool for so many trials at a time."""
    return ThreadPoolExecutor(jobs)
