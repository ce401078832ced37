"""The download Job's program against a Hub on loopback: completely or not at all, and only once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.prefetcher.hub import FILES, OTHER, SHA, Hub, served

pytestmark = pytest.mark.integration


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Serve the hub for one test."""
    with served() as running:
        yield running


def fetched(hub: Hub, into: Path, *arguments: str, fingerprint: str = "one") -> tuple[int, dict[str, Any]]:
    """Run the program as the Job does; returns its exit code and its last line."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(into.parent),
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    done = subprocess.run(
        [
            sys.executable, "-m", "flexinfer.prefetcher.fetch", "--repository", "org/tiny",
            "--into", str(into), "--fingerprint", fingerprint, *arguments,
        ],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def names(folder: Path) -> set[str]:
    """Return the names in a folder, except the manifest."""
    return {path.name for path in folder.iterdir() if path.name != ".flexinfer.json"}


def test_a_repository_is_downloaded_completely(hub: Hub, tmp_path: Path) -> None:
    """Every file; the report has the commit and the size."""
    code, report = fetched(hub, tmp_path / "m" / "one")
    assert code == 0
    assert (report["revision"], report["bytes"]) == (SHA, sum(map(len, FILES.values())))
    assert names(tmp_path / "m" / "one") == set(FILES)


def test_only_files_that_match_the_patterns_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    """One quantization of many, at the requested revision."""
    allow = json.dumps(["m-Q4.gguf", "*.json"])
    code, report = fetched(hub, tmp_path / "m" / "one", "--allow", allow, "--revision", "v2")
    assert (code, report["revision"]) == (0, OTHER)
    assert names(tmp_path / "m" / "one") == {"m-Q4.gguf", "config.json"}
    assert set(hub.fetched) == {"m-Q4.gguf", "config.json"}


def test_a_complete_folder_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    """The manifest says which choice the folder contains."""
    fetched(hub, tmp_path / "m" / "one")
    before = list(hub.fetched)
    code, report = fetched(hub, tmp_path / "m" / "one")
    assert (code, report["revision"], hub.fetched) == (0, SHA, before)


def test_a_download_that_failed_leaves_no_folder_and_keeps_complete_files(hub: Hub, tmp_path: Path) -> None:
    """A folder of that name is always complete."""
    hub.failing.add("m-Q8.gguf")
    code, report = fetched(hub, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, "HubUnavailable")
    assert not (tmp_path / "m" / "one").exists()
    hub.failing.clear()
    complete = set(hub.fetched)
    hub.fetched.clear()
    assert fetched(hub, tmp_path / "m" / "one")[0] == 0
    assert set(hub.fetched) == set(FILES) - complete
    assert names(tmp_path / "m" / "one") == set(FILES)


def test_the_previous_choice_is_kept_for_an_engine_that_still_reads_it(hub: Hub, tmp_path: Path) -> None:
    """The newest previous folder stays, older ones are deleted."""
    for name in ("one", "two", "three"):
        assert fetched(hub, tmp_path / "m" / name, fingerprint=name)[0] == 0
    assert names(tmp_path / "m") == {"two", "three"}


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        pytest.param(["--revision", "missing"], 3, "SourceNotFound", id="no such revision"),
        pytest.param(["--allow", '["nothing*"]'], 3, "SourceNotFound", id="nothing matches"),
        pytest.param(["--repository", "org/none"], 3, "SourceNotFound", id="no such repository"),
    ],
)
def test_what_the_hub_does_not_have_is_reported(
    hub: Hub, tmp_path: Path, arguments: list[str], code: int, reason: str
) -> None:
    """With the exit code and the reason of a source that does not exist."""
    exit_code, report = fetched(hub, tmp_path / "m" / "one", *arguments)
    assert (exit_code, report["reason"]) == (code, reason)


def test_a_gated_repository_names_the_secret(hub: Hub, tmp_path: Path) -> None:
    """The message says where the token is read from."""
    hub.gated = True
    code, report = fetched(hub, tmp_path / "m" / "one")
    assert code == 1
    assert "Secret hf-token" in report["message"]


def test_an_unavailable_hub_is_reported_in_a_sentence(tmp_path: Path) -> None:
    """The connection is refused: the Job fails with one line, not with a traceback."""
    with served() as gone:
        pass
    code, report = fetched(gone, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, "HubUnavailable")
    assert "the Hugging Face Hub did not serve org/tiny" in report["message"]
