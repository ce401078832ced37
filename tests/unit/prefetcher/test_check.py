"""The check of a Job: a size, missing, or unreadable."""

import json
import os
from pathlib import Path

import pytest

from flexinfer.prefetcher.check import check_path, write_report
from tests.unit.prefetcher.gguf_files import a_gguf


def test_a_file_is_reported_with_its_size(tmp_path: Path) -> None:
    """In bytes."""
    (tmp_path / "m.bin").write_bytes(b"12345")
    assert check_path(tmp_path / "m.bin") == {"found": True, "bytes": 5}


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


def test_a_gguf_file_must_be_as_long_as_its_header_says(tmp_path: Path) -> None:
    """The engine would fail on it, minutes later and without a reason."""
    (tmp_path / "m.gguf").write_bytes(a_gguf())
    assert "found" in check_path(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes(a_gguf()[:-1])
    report = check_path(tmp_path / "m.gguf")
    assert report["reason"] == "IncompleteFile"
    assert "m.gguf is incomplete: " in str(report["message"])


def test_a_git_lfs_pointer_in_a_folder_is_named(tmp_path: Path) -> None:
    """As a clone without git-lfs leaves it."""
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
    report = check_path(tmp_path)
    assert report["reason"] == "IncompleteFile"
    assert "model.safetensors is a git-lfs pointer" in str(report["message"])
    assert "git lfs pull" in str(report["message"])


SAFETENSORS = (16).to_bytes(8, "little") + b'{"a":{"b":"c"}} ' + b"0" * 2000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>" + b" " * 2000, 'is not a safetensors file: it begins with "<!DOCTYPE"'),
        (b'{"error": "Repository not found"}', "is not a safetensors file"),
        (b"", "is not a safetensors file: it is empty"),
        ((5000).to_bytes(8, "little") + b"{" + b" " * 2000, "is incomplete: it has 2,009 bytes, and its header alone promises 5,008"),
        (SAFETENSORS, ""),
    ],
)  # fmt: skip
def test_a_page_that_was_stored_as_weights_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """However long it is: the engine would end with the error of a JSON decoder."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_bytes(b"{}")
    (tmp_path / "unet" / "model.safetensors").write_bytes(content)
    (tmp_path / "unet" / "._model.safetensors").write_bytes(b"Mac OS X")
    report = check_path(tmp_path)
    assert ("found" in report) == (not words)
    if words:
        assert report["reason"] == "IncompleteFile"
        assert f"model.safetensors {words}" in str(report["message"])
        assert "Remedy: put the complete file in its place" in str(report["message"])


def test_a_named_file_that_is_missing_is_said(tmp_path: Path) -> None:
    """Such as one part of a split file, or the projector."""
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(a_gguf())
    needed = [tmp_path / f"m-0000{part}-of-00002.gguf" for part in (1, 2)]
    report = check_path(tmp_path, needed)
    assert report["reason"] == "FileNotFound"
    assert "m-00002-of-00002.gguf does not exist (1 of 2 files are missing)" in str(report["message"])


def test_a_link_that_leads_out_of_the_volume_is_refused(tmp_path: Path) -> None:
    """Links inside it are the layout of the hub's own cache (reliability X12)."""
    volume, secret = tmp_path / "volume", tmp_path / "secret"
    volume.mkdir()
    secret.write_bytes(b"s")
    (volume / "blob").write_bytes(b"{}")
    (volume / "inner").symlink_to("blob")
    (volume / "outer").symlink_to(secret)
    assert check_path(volume / "inner", inside=volume)["bytes"] == 2
    for refused in (
        check_path(volume / "outer", inside=volume),
        check_path(volume, [volume / "outer"], volume),
    ):
        assert refused["reason"] == "Unreadable"
        assert "leads out of the volume" in str(refused["message"])


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    """A pipe would keep the check waiting (reliability X12)."""
    os.mkfifo(tmp_path / "pipe")
    assert check_path(tmp_path / "pipe", inside=tmp_path)["reason"] == "SourceNotFound"


def test_the_report_is_written_where_kubernetes_reads_it(tmp_path: Path) -> None:
    """The termination message is the report, also where a process has no mounts of its own."""
    log = tmp_path / "termination-log"
    mounts = {"FLEXINFER_MOUNTS": json.dumps({"/dev/termination-log": str(log)})}
    write_report({"found": True}, mounts)
    assert log.read_text() == '{"found": true}'
