"""Verifying a folder: every file is the one of the manifest, or named."""

import hashlib
import json
from pathlib import Path

import pytest

from flexinfer.api.reasons import Reason
from flexinfer.prefetcher.download import manifest as manifests
from flexinfer.prefetcher.verify import main, report_on

FILES = {"a.json": b"{}", "deep/m.gguf": b"GGUF" * 1000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a complete folder."""
    files = [
        {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in FILES.items()
    ]
    described = {
        "source": "HF://o/r",
        "fingerprint": "f",
        "commit": "c0ffee",
        "selection": {"repository": "o/r"},
        "files": files,
    }
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / manifests.NAME).write_text(json.dumps(described))
    return tmp_path


def test_a_folder_that_is_what_was_downloaded_is_verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its size and commit, as the last line of the output."""
    assert main([str(folder)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report == {"revision": "c0ffee", "bytes": 4002, "files": 2}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GGUF" * 999 + b"GGUf", "deep/m.gguf (another sha256)"),
        (b"GGUF", "deep/m.gguf (4 bytes, not 4,000)"),
        (None, "deep/m.gguf (No such file or directory)"),
    ],
)
def test_a_file_that_is_another_one_is_named(folder: Path, data: bytes | None, words: str) -> None:
    """One bit of the right size too (reliability X5)."""
    path = folder / "deep" / "m.gguf"
    path.unlink() if data is None else path.write_bytes(data)
    report = report_on(folder)
    assert report["reason"] == Reason.CHECKSUM_MISMATCH
    assert f"1 of 2 files are not those that were downloaded: {words}" in str(report["message"])
    assert main([str(folder)]) == 1


def test_a_folder_without_a_manifest_is_none(tmp_path: Path) -> None:
    """Nothing says what it should hold."""
    assert report_on(tmp_path)["reason"] == Reason.SOURCE_NOT_FOUND
    assert (main([str(tmp_path)]), main([])) == (3, 2)
