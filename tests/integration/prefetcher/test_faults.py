"""Downloads among others: several writers, a hub that sends clients in circles, changed selections, odd repositories."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.api.reasons import Reason
from flexinfer.prefetcher.download.selection import MOST_FILES
from flexinfer.sources.base import Files
from tests.integration.prefetcher.hub import FILES, GGUF, OTHER, REPOSITORY, Hub, served
from tests.integration.prefetcher.program import downloaded, killed, names, started
from tests.patience import patient

pytestmark = pytest.mark.integration
LARGE = GGUF + bytes(range(256)) * 40_000


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Serve the hub for one test."""
    with served() as running:
        yield running


def test_five_downloads_of_one_repository_end_with_the_right_bytes(hub: Hub, tmp_path: Path) -> None:
    """Two Models of two revisions, and three writers of one folder, all at once on one volume (reliability X3) (reliability X22)."""
    hub.files = {"m.gguf": LARGE}
    folders = [tmp_path / "a" / "one", tmp_path / "b" / "one", *[tmp_path / "c" / "one"] * 3]
    revisions = ["", "v2", "", "", ""]
    running = [started(hub, into, revision=r) for into, r in zip(folders, revisions, strict=True)]
    assert [process.wait(patient(120)) for process in running] == [0] * 5
    for into in folders:
        assert (into / "m.gguf").read_bytes() == LARGE
    assert sum(hub.sent.values()) <= 3 * len(LARGE) + 2**20


def test_a_writer_that_was_killed_holds_up_nobody(hub: Hub, tmp_path: Path) -> None:
    """The lock is the kernel's (reliability X4)."""
    hub.files = {"m.gguf": LARGE}
    killed(hub, tmp_path / "m" / "one", 2**20)
    assert downloaded(hub, tmp_path / "m" / "one", "--stall-seconds", str(patient(5)))[0] == 0


def test_a_folder_that_another_download_writes_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    """And said, with back-off for the next attempt (reliability X3)."""
    (tmp_path / "m").mkdir()
    number = os.open(tmp_path / "m", os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)
    try:
        code, report = downloaded(hub, tmp_path / "m" / "one", "--stall-seconds", "1")
    finally:
        os.close(number)
    assert (code, report["reason"], hub.requests) == (1, Reason.FETCH_FAILED, [])
    assert "another download has written to" in report["message"]


@pytest.mark.parametrize(
    "changes", [{"revision": "v2"}, {"names": ("m-Q8.gguf",)}, {"allow": ("*.gguf",)}, {"ignore": ("*.md",)}]
)
def test_another_selection_serves_other_bytes(hub: Hub, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Its folder is another one, and holds what the hub has now (reliability X7)."""
    before, after = Files(repository=REPOSITORY), Files(repository=REPOSITORY, **changes)
    assert downloaded(hub, tmp_path / "m" / before.fingerprint)[0] == 0
    hub.files = {
        name: data + b"!" if name.endswith((".json", ".md")) else GGUF + b"n" * 300_000
        for name, data in FILES.items()
    }
    hub.commit = OTHER
    into = tmp_path / "m" / after.fingerprint
    assert into.name != before.fingerprint
    assert downloaded(hub, into, **changes)[0] == 0
    assert {name: (into / name).read_bytes() for name in names(into)}.items() <= hub.files.items()
    assert (tmp_path / "m" / before.fingerprint / "m-Q4.gguf").read_bytes() == FILES["m-Q4.gguf"]


@pytest.mark.parametrize("fault", ["loop", "304", "elsewhere"])
def test_a_hub_that_sends_nothing_is_said_and_no_other_host_sees_the_token(
    hub: Hub, tmp_path: Path, fault: str
) -> None:
    """A loop of redirects, `304` to a client without a cache, a place that is none (reliability X8)."""
    hub.token = "hf_canary"
    (tmp_path / "token").write_text("hf_canary")
    hub.cdn_fault = fault
    mounted = ("--secret", "mine", "--secret-folder", str(tmp_path), "--stall-seconds", str(patient(1)))
    code, report = downloaded(hub, tmp_path / "m" / "one", *mounted, names=("m-Q4.gguf",))
    assert (code, report["reason"]) == (1, Reason.HUB_UNAVAILABLE)
    assert {place for place, _ in hub.tokens} == {"hub"}
    assert "hf_canary" not in str(report)


def test_a_token_is_in_no_argument_variable_or_file_of_a_download(hub: Hub, tmp_path: Path) -> None:
    """As /proc shows them while it runs, and as the volume is left (reliability X10)."""
    hub.gated, hub.token, hub.files = True, "hf_canary", {"m.gguf": LARGE}
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "token").write_text("hf_canary")
    hub.hold_after(2**20)
    process = started(hub, tmp_path / "m" / "one", "--secret", "mine", "--secret-folder", str(secret))
    try:
        hub.wait_sent(2**20)
        for shown in ("cmdline", "environ"):
            assert b"hf_canary" not in Path(f"/proc/{process.pid}/{shown}").read_bytes()
        hub.release()
        assert process.wait(patient(60)) == 0
    finally:
        process.kill()
        process.wait()
    held = [
        path for path in (tmp_path / "m").rglob("*") if path.is_file() and b"hf_canary" in path.read_bytes()
    ]
    assert held == []


def test_a_repository_of_too_many_files_is_refused_within_seconds(hub: Hub, tmp_path: Path) -> None:
    """With what to do; as is an empty one, and a name that no disk takes (reliability X23)."""
    hub.files = {f"{number}.json": b"{}" for number in range(2 * MOST_FILES)}
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["reason"], hub.fetched) == (1, Reason.FETCH_FAILED, [])
    assert (
        "has 10,000 files of this selection, and at most 5,000 are downloaded. Remedy: " in report["message"]
    )
    hub.files = {}
    assert downloaded(hub, tmp_path / "m" / "one")[1]["reason"] == Reason.FILE_NOT_FOUND
    hub.files = {"x" * 300 + ".json": b"{}"}
    assert "more than 255 bytes" in downloaded(hub, tmp_path / "m" / "one")[1]["message"]


def test_names_that_differ_by_case_are_two_files(hub: Hub, tmp_path: Path) -> None:
    """In their own folders or not (reliability X23)."""
    hub.files = {"a.json": b"1", "A.json": b"2", "d/x.json": b"3", "D/x.json": b"4"}
    assert downloaded(hub, tmp_path / "m" / "one")[0] == 0
    assert {name: (tmp_path / "m" / "one" / name).read_bytes() for name in hub.files} == hub.files
