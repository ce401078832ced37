"""Process: real processes whose ends are reported, also to a successor."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from localkube.kubelet import container_process
from localkube.kubelet.container_process import Launch, Process
from localkube.process_identity import alive
from tests.patience import patient

SECONDS = patient(10.0)


def a_launch(folder: Path, script: str) -> Launch:
    """Return how to run a shell script."""
    return Launch(
        argv=("/bin/sh", "-c", script),
        environment={"PATH": os.defpath},
        folder=folder / "run",
        directory=folder,
        log=folder / "logs" / "0.log",
    )


async def ended(running: Process) -> int | None:
    """Return the exit code, in time."""
    async with asyncio.timeout(SECONDS):
        return await running.ended()


async def written(path: Path) -> None:
    """Wait until a process wrote a file."""
    async with asyncio.timeout(SECONDS):
        while not path.exists() or not path.read_text():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 3", 3, id="failure"),
        pytest.param("kill -9 $$", 137, id="killed"),
        pytest.param("kill -15 $$", 143, id="terminated"),
    ],
)
async def test_the_exit_code_is_a_containers(tmp_path: Path, script: str, code: int) -> None:
    """128 + n for signal n."""
    assert await ended(await container_process.start(a_launch(tmp_path, script))) == code


async def test_output_goes_to_the_log(tmp_path: Path) -> None:
    """Both streams, in order."""
    await ended(await container_process.start(a_launch(tmp_path, "echo out; echo err >&2")))
    assert (tmp_path / "logs" / "0.log").read_text() == "out\nerr\n"


async def test_a_process_that_heeds_sigterm_ends_by_itself(tmp_path: Path) -> None:
    """Its own exit code is kept."""
    script = "trap 'exit 7' TERM; echo ready > up; while :; do sleep 0.01; done"
    running = await container_process.start(a_launch(tmp_path, script))
    await written(tmp_path / "up")
    assert await running.stop(SECONDS) == 7


async def test_a_process_that_does_not_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """The whole group goes (reliability G15)."""
    script = "trap '' TERM; sleep 60 & echo $! > child; wait; sleep 60"
    running = await container_process.start(a_launch(tmp_path, script))
    await written(tmp_path / "child")
    child = int((tmp_path / "child").read_text())
    assert await running.stop(0.05) == 137
    async with asyncio.timeout(SECONDS):
        while _lives(child):
            await asyncio.sleep(0.005)


async def test_what_it_leaves_behind_goes_with_it(tmp_path: Path) -> None:
    """As with the first process of a container."""
    running = await container_process.start(a_launch(tmp_path, "sleep 60 & echo $! > child"))
    assert await ended(running) == 0
    child = int((tmp_path / "child").read_text())
    async with asyncio.timeout(SECONDS):
        while _lives(child):
            await asyncio.sleep(0.005)


async def test_a_successor_hears_the_exit_code_of_what_it_adopted(tmp_path: Path) -> None:
    """Whether it ends before or after."""
    first = await container_process.start(
        a_launch(tmp_path, "echo ready > up; while [ ! -f go ]; do sleep 0.01; done; exit 5")
    )
    await written(tmp_path / "up")
    adopted = container_process.adopt(tmp_path / "run", first.identity)
    assert adopted is not None
    assert adopted.identity == first.identity
    (tmp_path / "go").touch()
    assert (await ended(adopted), await ended(first)) == (5, 5)
    later = container_process.adopt(tmp_path / "run", first.identity)
    assert later is not None
    assert await ended(later) == 5


async def test_an_engine_whose_shell_was_killed_is_still_followed_and_its_end_is_unknown(
    tmp_path: Path,
) -> None:
    """No exit code is guessed."""
    running = await container_process.start(a_launch(tmp_path, "echo ready > up; exec sleep 60"))
    await written(tmp_path / "up")
    shim = int((tmp_path / "run" / "pid").read_text().split()[0])
    os.kill(shim, signal.SIGKILL)
    adopted = container_process.adopt(tmp_path / "run", running.identity)
    assert adopted is not None
    assert running.identity is not None
    assert alive(running.identity)
    os.kill(running.identity.pid, signal.SIGTERM)
    assert (await ended(adopted), await ended(running)) == (None, None)


async def test_a_folder_in_which_nothing_was_started_holds_nothing(tmp_path: Path) -> None:
    """Nothing to adopt."""
    assert container_process.adopt(tmp_path, None) is None


async def test_processes_whose_records_are_gone_are_ended(tmp_path: Path) -> None:
    """And those that are to be kept are not."""
    kept = await container_process.start(a_launch(tmp_path / "kept", "exec sleep 60"))
    stray = await container_process.start(a_launch(tmp_path / "stray", "exec sleep 60"))
    container_process.kill_all_except(tmp_path, frozenset({tmp_path / "kept"}))
    assert await ended(stray) in (None, 137)
    assert kept.identity is not None
    assert alive(kept.identity)
    assert await kept.stop(0) == 137


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
