"""Files of processes that continue whatever the disk does."""

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from localkube.files import PatientWriter, problem, replace, rotate
from tests.patience import patient


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow, as on a full disk: the kernel refuses each write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nothing is left of a draft that found no room."""
    replace(tmp_path / "record", b"one")
    with no_room(), pytest.raises(OSError, match="File too large"):
        replace(tmp_path / "record", b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("record", b"one")]
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o600


async def test_a_record_that_finds_no_room_is_written_once_there_is_some(tmp_path: Path) -> None:
    """In its latest state; a file that is deleted meanwhile is not written any more."""
    writer, state = PatientWriter(retry=0.01), [b"one"]
    with no_room():
        writer.write(tmp_path / "record", lambda: state[0])
        writer.write(tmp_path / "deleted", lambda: b"x")
        writer.forget(tmp_path / "deleted")
    assert not list(tmp_path.iterdir())
    state[0] = b"two"
    running = asyncio.create_task(writer.run())
    async with asyncio.timeout(patient(10)):
        while not (tmp_path / "record").exists():
            await asyncio.sleep(0.005)
    running.cancel()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("record", b"two")]


def test_a_folder_without_room_says_why(tmp_path: Path) -> None:
    """As the kernel says it; and nothing is left in a folder that has room."""
    assert problem(tmp_path) == ""
    with no_room():
        assert problem(tmp_path) == "File too large"
    assert problem(tmp_path / "none") == "No such file or directory"
    assert not list(tmp_path.iterdir())


def test_a_log_is_rotated_under_its_writer(tmp_path: Path) -> None:
    """The writer appends to what was emptied; one older file is kept, and a small log is left alone."""
    log = tmp_path / "engine.log"
    with log.open("ab", buffering=0) as writer:
        for name in (b"first", b"second"):
            writer.write(name * 100)
            rotate(log, limit=100)
            assert (log.stat().st_size, (tmp_path / "engine.log.1").read_bytes()) == (0, name * 100)
        writer.write(b"third")
        rotate(log, limit=100)
    assert log.read_bytes() == b"third"
    assert (tmp_path / "engine.log.1").read_bytes() == b"second" * 100


def test_a_log_on_a_full_disk_is_emptied(tmp_path: Path) -> None:
    """That makes the room that its copy lacks."""
    log = tmp_path / "engine.log"
    log.write_bytes(b"x" * 200)
    with no_room():
        rotate(log, limit=100)
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("engine.log", 0)]
    rotate(tmp_path / "none", limit=100)
    assert [path.name for path in tmp_path.iterdir()] == ["engine.log"]
