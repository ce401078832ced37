"""The folder of prompt caches: readable by its owner alone, and never larger than its room for long."""

import os
from pathlib import Path

import pytest

from flexinfer.prefetcher.prompts import main, prepare


def a_file(folder: Path, name: str, size: int, age: int) -> Path:
    """Write a file that is so many seconds old."""
    file = folder / name
    file.write_bytes(b"x" * size)
    os.utime(file, (1_000_000 - age, 1_000_000 - age))
    return file


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Prompts are people's words; one that others may read is closed again."""
    folder = tmp_path / ".flexinfer" / "prompts-u"
    assert prepare(folder, 10) == []
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    prepare(folder, 10)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_oldest_go_until_the_rest_fits(tmp_path: Path) -> None:
    """And no more than that."""
    old, middle, new = (a_file(tmp_path, name, 4, age) for name, age in (("a", 30), ("b", 20), ("c", 10)))
    assert prepare(tmp_path, 8) == [old]
    assert prepare(tmp_path, 7) == [middle]
    assert prepare(tmp_path, 0) == [new]


def test_a_claim_that_cannot_be_written_costs_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The container ends well; the engine then has no cache."""
    (tmp_path / "file").write_text("")
    main(["--folder", str(tmp_path / "file" / "prompts"), "--room-mb", "1"])
    assert "prompt caches are not kept" in caplog.text
