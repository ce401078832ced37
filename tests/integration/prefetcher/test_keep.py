"""The program that keeps files in the page cache, on a file system of this machine: what the kernel says is resident."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flexinfer.prefetcher.keep import absent_of
from tests.instance import until
from tests.integration.prefetcher import page_cache
from tests.patience import patient

pytestmark = pytest.mark.integration
SIZE = 80 * 2**20 + 1234
"""More than one window, and no whole number of pages."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file on a disk, in a folder of a folder; skipped where the file system keeps its pages."""
    path = tmp_path / "one" / "part" / "m.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(SIZE))
    page_cache.drop(path)
    if not absent_of(path):
        pytest.skip("this file system keeps its pages in memory")
    return path


@contextmanager
def keeping(folder: Path, every: float) -> Iterator[subprocess.Popen[str]]:
    """Run the program on a folder."""
    program = [sys.executable, "-m", "flexinfer.prefetcher.keep", str(folder), "--every", str(every)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_files_are_brought_into_the_page_cache_and_again_after_they_were_dropped(weights: Path) -> None:
    """Every page of every file below the folder."""
    assert absent_of(weights) > SIZE // 2
    with keeping(weights.parents[1], 0.1):
        until(lambda: absent_of(weights) == 0, 60, "the file is resident")
        page_cache.drop(weights)
        until(lambda: absent_of(weights) == 0, 60, "the file is resident again")


def test_the_program_ends_by_sigterm_while_it_waits(weights: Path) -> None:
    """As process 1 of a container nothing else would end it within its grace period."""
    with keeping(weights.parents[1], 3600) as process:
        assert process.stderr is not None
        assert "bytes were read into the page cache" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(patient(30)) == 0


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The Job fails, and is made again with back-off."""
    with keeping(tmp_path / "gone", 1) as process:
        _, said = process.communicate(timeout=patient(60))
    assert (process.returncode, said) == (1, f"{tmp_path / 'gone'} does not exist or is empty\n")
