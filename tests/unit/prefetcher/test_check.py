"""The check of a Job: a size, missing, or unreadable."""

import json
from pathlib import Path

from flexinfer.prefetcher.check import check_path, write_report


def test_a_file_is_reported_with_its_size(tmp_path: Path) -> None:
    """In bytes."""
    (tmp_path / "m.gguf").write_bytes(b"12345")
    assert check_path(tmp_path / "m.gguf") == {"found": True, "bytes": 5}


def test_a_folder_is_reported_with_the_size_of_its_files(tmp_path: Path) -> None:
    """Those of subfolders included."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"45")
    assert check_path(tmp_path) == {"found": True, "bytes": 5}


def test_a_missing_or_empty_path_is_not_found(tmp_path: Path) -> None:
    """An empty PVC has no weights."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "none").touch()
    reasons = [check_path(tmp_path / name).get("reason") for name in ("missing", "empty", "none")]
    assert reasons == ["SourceNotFound"] * 3


def test_the_report_is_written_where_kubernetes_reads_it(tmp_path: Path) -> None:
    """The termination message is the report, also where a process has no mounts of its own."""
    log = tmp_path / "termination-log"
    mounts = {"FLEXINFER_MOUNTS": json.dumps({"/dev/termination-log": str(log)})}
    write_report({"found": True}, mounts)
    assert log.read_text() == '{"found": true}'
