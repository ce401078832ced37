"""`flexinfer up --detach`: the same command as a process in the background, which says on a pipe when everything is ready."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from flexinfer.cli.errors import CommandError
from flexinfer.cli.prepare import Choices, built, check_simulation
from flexinfer.local import instance as instances
from flexinfer.local.lock import lock_holder

READY_SECONDS = 90.0
READY = b"ready\n"


def detached(
    state: Path, choices: Choices, report: Callable[[str], None], seconds: float = READY_SECONDS
) -> bool:
    """Start `up` in the background and return when everything is ready; programs that must be built are built first, in the foreground.

    Returns False if another process has taken the folder meanwhile, so that nothing was started. Raises CommandError if not everything
    becomes ready in time; everything is stopped again then. Raises InstanceError.
    """
    check_simulation(state, choices)
    built(state, choices.world, report)
    for folder in (state, state / "logs"):
        instances.make_folder(folder)
    log = state / "logs" / "up.log"
    offset = log.stat().st_size if log.exists() else 0
    words = [sys.executable, "-m", "flexinfer.cli", "up", "--state", str(state)]
    with _pipe() as (reading, writing), log.open("ab") as output:
        child = subprocess.Popen(
            [*words, *choices.words, "--ready-descriptor", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(writing,),
        )
        os.close(writing)
        with _ended_by_an_interrupt(child):
            answer = _answer(reading, seconds)
    if answer == READY:
        report(_text_from(log, offset))
        return True
    if answer is None:
        child.terminate()
    child.wait()
    if answer is not None and lock_holder(state) is not None:
        return False
    late = f"not everything became ready within {seconds:g}s, so everything was stopped"
    raise CommandError(
        f"{late if answer is None else 'nothing was started'}; {log}:\n{_text_from(log, offset)}"
    )


def _text_from(log: Path, offset: int) -> str:
    """Return what was written into a log since it was that long."""
    return log.read_bytes()[offset:].decode(errors="replace").rstrip()


@contextlib.contextmanager
def _ended_by_an_interrupt(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a child that is waited for in the block if the user presses Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe whose writing end the caller closes."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)


def _answer(reading: int, seconds: float) -> bytes | None:
    """Return what the child wrote, nothing if it exited; None once the timeout is over."""
    if select.select([reading], [], [], seconds)[0]:
        return os.read(reading, len(READY))
    return None
