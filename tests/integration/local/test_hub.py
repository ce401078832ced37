"""The hub of the demo, asked by the program of a download."""

import os
import threading
import time
from pathlib import Path

import pytest

from flexinfer.local.hub import served
from tests.integration.prefetcher.hub import GGUF, Hub
from tests.integration.prefetcher.program import downloaded

pytestmark = pytest.mark.integration
FAST = 2.0**40


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of several parts."""
    path = tmp_path / "source.gguf"
    path.write_bytes(GGUF + os.urandom(9 * 2**20))
    return path


def address(url: str) -> Hub:
    """Return what the program of a download knows of a hub: its address."""
    told = Hub()
    told.address = url
    return told


def test_a_file_of_this_machine_is_downloaded_as_from_a_hub(tmp_path: Path, file: Path) -> None:
    """Listed, fetched in parts, verified; every byte is the file's."""
    with served("demo/tiny", {"m.gguf": file}, FAST) as hub:
        code, report = downloaded(address(hub.address), tmp_path / "m" / "one", repository="demo/tiny")
    assert (code, report["revision"]) == (0, hub.commit)
    assert (tmp_path / "m" / "one" / "m.gguf").read_bytes() == file.read_bytes()


def test_what_it_does_not_have_is_said_as_a_hub_says_it(tmp_path: Path, file: Path) -> None:
    """A repository, and a file of one."""
    with served("demo/tiny", {"m.gguf": file}, FAST) as hub:
        _, repository = downloaded(address(hub.address), tmp_path / "m" / "one", repository="demo/other")
        _, missing = downloaded(
            address(hub.address), tmp_path / "m" / "one", repository="demo/tiny", names=("x.gguf",)
        )
    assert (repository["reason"], missing["reason"]) == ("SourceNotFound", "FileNotFound")


def test_all_requests_together_have_one_pace(tmp_path: Path, file: Path) -> None:
    """Four readers of 1 MB at 4 MB/s take a second, not a quarter of one."""
    with served("demo/tiny", {"m.gguf": file}, 4e6) as hub:
        began = time.monotonic()
        readers = [threading.Thread(target=hub.wait_for, args=(10**6,)) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert time.monotonic() - began >= 0.99
