"""The look of a Job: something, nothing, or not to be read."""

import json
from pathlib import Path

from flexinfer.prefetcher.check import look, tell


def test_a_file_is_told_with_its_size(tmp_path: Path) -> None:
    """What the engine will load."""
    (tmp_path / "m.gguf").write_bytes(b"12345")
    assert look(tmp_path / "m.gguf") == {"found": True, "bytes": 5}


def test_a_folder_is_told_with_all_that_lies_in_it(tmp_path: Path) -> None:
    """Also below."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"45")
    assert look(tmp_path) == {"found": True, "bytes": 5}


def test_what_is_missing_or_empty_is_not_there(tmp_path: Path) -> None:
    """An empty claim is no model."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "none").touch()
    reasons = [look(tmp_path / name).get("reason") for name in ("missing", "empty", "none")]
    assert reasons == ["SourceNotFound"] * 3


def test_the_report_is_left_where_kubernetes_looks(tmp_path: Path) -> None:
    """The termination message is the report, also where a process has no mounts of its own."""
    place = tmp_path / "termination-log"
    mounts = {"FLEXINFER_MOUNTS": json.dumps({"/dev/termination-log": str(place)})}
    tell({"found": True}, mounts)
    assert place.read_text() == '{"found": true}'
