"""Processes: told apart by pid and start time, never polled."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from flexinfer.local.supervisor import process
from flexinfer.local.supervisor.process import Process, adopt
from flexinfer.local.supervisor.program import MARKER_VARIABLE
from localkube import process_identity
from localkube.process_identity import Identity, alive, identify
from tests.patience import patient


async def reaped(former: Process) -> None:
    """Reap a process as init would."""
    async with asyncio.timeout(patient(10)):
        await former.ended()
    former.close()


async def test_a_pid_that_was_given_to_another_process_is_not_taken_for_ours() -> None:
    """Pid and start time together say which process is meant."""
    me = identify(os.getpid())
    assert me is not None
    assert alive(me)
    assert adopt(Identity(me.pid, me.started + 1)) is None


async def test_a_zombie_does_not_live(tmp_path: Path) -> None:
    """Ended but not reaped: it is not adopted."""
    child = process.start((sys.executable, "-c", ""), os.environ, tmp_path / "log")
    again = await watched(child)
    assert again is None


async def watched(child: Process) -> Process | None:
    """Try to adopt a child of ours after its end, before it is reaped."""
    async with asyncio.timeout(patient(10)):
        while identify(child.identity.pid) is not None:
            await asyncio.sleep(0.005)
    found = adopt(child.identity)
    await child.ended()
    child.close()
    return found


def _marked() -> list[tuple[str, ...]]:
    return [found.argv for found in process_identity.find(MARKER_VARIABLE) if found.value == "x/one/f"]


async def test_the_marker_is_found_in_the_environment_of_a_process(tmp_path: Path) -> None:
    """A process is identified by its environment, whichever supervisor recorded it."""
    child = process.start(("/bin/sleep", "30"), os.environ | {MARKER_VARIABLE: "x/one/f"}, tmp_path / "log")
    try:
        async with asyncio.timeout(patient(30)):
            while _marked() != [
                ("/bin/sleep", "30")
            ]:  # it has the environment once the program has replaced the fork
                await asyncio.sleep(0.01)
    finally:
        child.send(signal.SIGKILL)
        await reaped(child)
