"""The download Job's program against a hub on loopback: completely or not at all, only once, and with the reason if not."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.api.reasons import Reason
from flexinfer.local.tls import tls_files
from localkube.tls import server_context
from tests.integration.prefetcher.hub import FILES, GGUF, OTHER, SHA, Hub, served
from tests.integration.prefetcher.program import downloaded, elsewhere, killed, names, started
from tests.patience import patient
from tests.ports import free_port

pytestmark = pytest.mark.integration
PART = 4 * 2**20
STREAMS = 8
_MOST_BETWEEN_KILLS = 8 * 2**20
_LONG = 50
"""Kills from which on the file has 1 GiB."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Serve the hub for one test."""
    with served() as running:
        yield running


def large(size: int) -> bytes:
    """Return a GGUF file of some size whose parts all differ."""
    pages = b"".join(index.to_bytes(8, "little") * 512 for index in range(-(-size // 4096)))
    return GGUF + pages[len(GGUF) : size]


def test_a_repository_is_downloaded_completely(hub: Hub, tmp_path: Path) -> None:
    """Every file; the report has the commit and the size, the manifest every file's digest."""
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert code == 0
    assert (report["revision"], report["bytes"]) == (SHA, sum(map(len, FILES.values())))
    assert {name: (tmp_path / "m" / "one" / name).read_bytes() for name in FILES} == FILES
    assert names(tmp_path / "m" / "one") == set(FILES)
    manifest = json.loads((tmp_path / "m" / "one" / ".flexinfer.json").read_text())
    assert (manifest["source"], manifest["commit"]) == ("HF://org/tiny", SHA)
    assert {file["path"] for file in manifest["files"]} == set(FILES)
    assert all(len(file["sha256"]) == 64 for file in manifest["files"])


def test_a_listing_says_commit_and_size_and_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    """No folder is made, and no file is asked for."""
    into = tmp_path / "m" / "one"
    code, report = downloaded(hub, into, "--list", names=("m-Q4.gguf",))
    assert (code, report["revision"], report["bytes"]) == (0, SHA, len(FILES["m-Q4.gguf"]))
    assert not into.parent.exists()
    assert not [request for request in hub.requests if "resolve" in str(request)]


def test_a_listing_refuses_what_the_download_would_refuse(hub: Hub, tmp_path: Path) -> None:
    """With the same reason."""
    hub.gated = True
    code, report = downloaded(hub, tmp_path / "one", "--list")
    assert (code, report["reason"]) == (1, Reason.GATED_REPOSITORY)


def test_only_selected_files_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    """One quantization of many by its name, others by a pattern, at the requested revision."""
    into = tmp_path / "m" / "one"
    code, report = downloaded(hub, into, names=("m-Q4.gguf",), allow=("*.json",), revision="v2")
    assert (code, report["revision"]) == (0, OTHER)
    assert names(into) == {"m-Q4.gguf", "config.json"}
    assert set(hub.fetched) == {"m-Q4.gguf", "config.json"}


def test_a_complete_folder_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    """The manifest says what the folder contains: the hub is not even asked."""
    downloaded(hub, tmp_path / "m" / "one")
    hub.requests.clear()
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["revision"], hub.requests) == (0, SHA, [])


def test_a_folder_that_lost_a_file_is_filled_again(hub: Hub, tmp_path: Path) -> None:
    """Only what is missing is fetched."""
    downloaded(hub, tmp_path / "m" / "one")
    (tmp_path / "m" / "one" / "m-Q8.gguf").unlink()
    hub.sent.clear()
    assert downloaded(hub, tmp_path / "m" / "one")[0] == 0
    assert hub.fetched == ["m-Q8.gguf"]
    assert names(tmp_path / "m" / "one") == set(FILES)


def test_a_folder_without_a_manifest_is_not_complete(hub: Hub, tmp_path: Path) -> None:
    """Whatever it holds: files that are right are kept, others are replaced."""
    downloaded(hub, tmp_path / "m" / "one")
    (tmp_path / "m" / "one" / ".flexinfer.json").unlink()
    (tmp_path / "m" / "one" / "m-Q4.gguf").write_bytes(b"x" * len(FILES["m-Q4.gguf"]))
    hub.sent.clear()
    assert downloaded(hub, tmp_path / "m" / "one")[0] == 0
    assert hub.fetched == ["m-Q4.gguf"]
    assert (tmp_path / "m" / "one" / "m-Q4.gguf").read_bytes() == FILES["m-Q4.gguf"]


def test_another_selection_takes_what_it_has_in_common_from_the_previous_one(
    hub: Hub, tmp_path: Path
) -> None:
    """A new revision with one new file is one file's download."""
    downloaded(hub, tmp_path / "m" / "one", names=("m-Q4.gguf",))
    hub.sent.clear()
    assert downloaded(hub, tmp_path / "m" / "two", names=("m-Q4.gguf", "m-Q8.gguf"))[0] == 0
    assert hub.fetched == ["m-Q8.gguf"]
    assert (tmp_path / "m" / "two" / "m-Q4.gguf").read_bytes() == FILES["m-Q4.gguf"]


def test_the_previous_selection_is_kept_for_an_engine_that_still_reads_it(hub: Hub, tmp_path: Path) -> None:
    """The newest previous folder stays, older ones are deleted."""
    for number, name in enumerate(("one", "two", "three")):
        assert downloaded(hub, tmp_path / "m" / name, allow=("*", str(number)))[0] == 0
    assert names(tmp_path / "m") == {"two", "three"}


@pytest.mark.parametrize(
    ("selection", "reason", "words"),
    [
        pytest.param(
            {"revision": "missing"}, Reason.REVISION_NOT_FOUND, "no revision missing", id="revision"
        ),
        pytest.param({"allow": ("nothing*",)}, Reason.FILE_NOT_FOUND, "none of the 4 files", id="patterns"),
        pytest.param(
            {"names": ("m-Q5.gguf",)}, Reason.FILE_NOT_FOUND, "it has m-Q4.gguf, m-Q8.gguf", id="name"
        ),
        pytest.param({"names": ("m-Q?.gguf",)}, Reason.FILE_NOT_FOUND, "no file m-Q?.gguf", id="no pattern"),
        pytest.param({"names": ("m-Q4.gguf", "mm.gguf")}, Reason.FILE_NOT_FOUND, "mm.gguf", id="mmproj"),
        pytest.param(
            {"repository": "org/none"}, Reason.SOURCE_NOT_FOUND, "no repository org/none", id="repository"
        ),
    ],
)
def test_what_the_hub_does_not_have_is_reported_by_name(
    hub: Hub, tmp_path: Path, selection: dict[str, Any], reason: str, words: str
) -> None:
    """By the listing, before a byte is fetched, with what to do."""
    code, report = downloaded(hub, tmp_path / "m" / "one", **selection)
    assert (code, report["reason"]) == (1, reason)
    assert words in report["message"]
    assert "Remedy: " in report["message"]
    assert hub.fetched == []


def test_a_gated_repository_is_refused_without_its_token_and_served_with_it(hub: Hub, tmp_path: Path) -> None:
    """The message names the Secret and the remedy; the token goes to the hub and to no other host (X8, X9, X10)."""
    hub.gated, hub.token = True, "hf_canary"
    secret = tmp_path / "secret"
    secret.mkdir()
    mounted = ("--secret", "mine", "--secret-folder", str(secret))
    code, report = downloaded(hub, tmp_path / "m" / "one", *mounted)
    assert (code, report["reason"]) == (1, Reason.GATED_REPOSITORY)
    assert "without a token. Remedy: " in report["message"]
    assert "Secret mine, key token" in report["message"]
    (secret / "HF_TOKEN").write_text("hf_wrong\n")
    code, report = downloaded(hub, tmp_path / "m" / "one", *mounted)
    assert "with the token of the Secret mine" in report["message"]
    assert "hf_wrong" not in report["message"]
    (secret / "token").write_text("hf_canary\n")
    assert downloaded(hub, tmp_path / "m" / "one", *mounted)[0] == 0
    assert {place for place, _ in hub.tokens} == {"hub"}


def test_a_token_of_the_machines_own_user_is_never_sent(hub: Hub, tmp_path: Path) -> None:
    """On a local node the program runs as the user who has logged in to the hub (reliability X10)."""
    mine = {"HF_TOKEN": "hf_mine", "HF_TOKEN_PATH": str(tmp_path / "token")}
    (tmp_path / "token").write_text("hf_mine")
    assert downloaded(hub, tmp_path / "m" / "one", variables=mine)[0] == 0
    assert hub.tokens == []


@pytest.mark.parametrize(
    ("content", "words"), [(None, "does not exist"), ("a b\nc", "5 characters that are not a token")]
)
def test_a_named_secret_without_a_token_is_said_before_the_hub_is_asked(
    hub: Hub, tmp_path: Path, content: str | None, words: str
) -> None:
    """A Pod that mounts it would only wait (reliability X9)."""
    if content is not None:
        (tmp_path / "token").write_text(content)
    mounted = ("--secret", "mine", "--secret-folder", str(tmp_path), "--secret-required")
    code, report = downloaded(hub, tmp_path / "m" / "one", *mounted)
    assert (code, report["reason"], hub.requests) == (1, Reason.SECRET_NOT_FOUND, [])
    assert words in report["message"]
    assert "the Secret mine " in report["message"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_answers_with_an_error_is_reported_with_its_status(
    hub: Hub, tmp_path: Path, status: int
) -> None:
    """A retry may help, so the reason is not one of the spec (reliability X8)."""
    hub.status = status
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.HUB_UNAVAILABLE)
    assert f"HTTP {status}" in report["message"]


@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b'{"id": "org/tiny"}'])
def test_an_answer_that_is_no_listing_is_reported(hub: Hub, tmp_path: Path, page: bytes) -> None:
    """As of a network that wants its users to sign in: another try may help (reliability X8)."""
    hub.page = page
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.HUB_UNAVAILABLE)
    answered = f'{hub.address}/api/models/org/tiny answers with "{page.decode()}", where its listing in JSON is expected ('
    assert f"does not serve org/tiny: it answers with no listing of files: {answered}" in report["message"]
    assert "Remedy: correct the mirror (FLEXINFER_HF_ENDPOINT or HF_ENDPOINT)" in report["message"]


def test_an_unavailable_hub_is_reported_in_a_sentence(tmp_path: Path) -> None:
    """The connection is refused: the Job fails with one line, not with a traceback."""
    with served() as gone:
        pass
    code, report = downloaded(gone, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.HUB_UNAVAILABLE)
    assert f"the hub at {gone.address} does not serve org/tiny: " in report["message"]


@pytest.mark.parametrize("after", [1000, PART - 1, 5 * 2**20])
def test_a_killed_download_fetches_less_than_a_part_of_each_stream_again(
    hub: Hub, tmp_path: Path, after: int
) -> None:
    """SIGKILL, at several bytes; what is written stays written, and nothing is complete before its end (reliability X1)."""
    content = large(50 * 2**20 + 12_345)
    hub.files = {"m.gguf": content}
    into = tmp_path / "m" / "one"
    for _ in range(3):
        killed(hub, into, sum(hub.sent.values()) + after)
        assert not into.exists()
    assert downloaded(hub, into)[0] == 0
    assert (into / "m.gguf").read_bytes() == content
    assert sum(hub.sent.values()) - len(content) <= 3 * STREAMS * PART


@pytest.mark.slow
def test_a_download_that_is_killed_again_and_again_is_complete_only_at_its_end(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At random bytes, drawn by a seed; each kill costs at most the parts in flight. `make test-long`: 50 times over 1 GiB (reliability X1)."""
    kills = int(os.environ.get("FLEXINFER_DOWNLOAD_KILLS", "20"))
    size = 2**30 if kills >= _LONG else kills * _MOST_BETWEEN_KILLS
    content = large(size + 7)
    hub.files = {"m.gguf": content}
    into, chance = tmp_path / "m" / "one", random.Random(17)
    lost = []
    for _ in range(kills):
        before, kept = sum(hub.sent.values()), recorded(tmp_path)
        killed(hub, into, before + chance.randrange(1, 2 * size // kills))
        assert not into.exists()
        lost.append(sum(hub.sent.values()) - before - (recorded(tmp_path) - kept))
    assert downloaded(hub, into)[0] == 0
    assert hashlib.sha256((into / "m.gguf").read_bytes()).digest() == hashlib.sha256(content).digest()
    again = sum(hub.sent.values()) - len(content)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{kills} kills over {size / 2**20:,.0f} MiB: fetched again after a kill: at most {max(lost) / 2**20:.1f} MiB, "
            f"{again / kills / 2**20:.1f} MiB on average\n"
        )
    assert max(lost) <= STREAMS * PART
    assert again <= kills * STREAMS * PART


def recorded(folder: Path) -> int:
    """Return the bytes of the parts that a journal in a folder records."""
    return sum(PART * path.read_text().count("\n") for path in folder.rglob("*.journal"))


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    """An answer that is always cut short brings its bytes all the same (reliability X1)."""
    content = large(9 * 2**20)
    hub.files, hub.cut_after = {"m.gguf": content}, 2_500_000
    assert downloaded(hub, tmp_path / "m" / "one")[0] == 0
    assert (tmp_path / "m" / "one" / "m.gguf").read_bytes() == content
    assert sum(hub.sent.values()) < len(content) + STREAMS * 64 * 1024


def test_wrong_bytes_are_refused_and_deleted(hub: Hub, tmp_path: Path) -> None:
    """The right size and a wrong byte; the next download fetches the file again (reliability X5)."""
    hub.corrupt.add("m-Q4.gguf")
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.CHECKSUM_MISMATCH)
    assert "m-Q4.gguf" in report["message"]
    assert not (tmp_path / "m" / "one").exists()
    hub.corrupt.clear()
    assert downloaded(hub, tmp_path / "m" / "one")[0] == 0
    assert (tmp_path / "m" / "one" / "m-Q4.gguf").read_bytes() == FILES["m-Q4.gguf"]


def test_a_small_file_with_wrong_bytes_is_refused(hub: Hub, tmp_path: Path) -> None:
    """X5: files of git itself are verified by git's digest."""
    hub.corrupt.add("config.json")
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.CHECKSUM_MISMATCH)
    assert "config.json" in report["message"]


def test_a_silent_hub_is_a_stalled_download(hub: Hub, tmp_path: Path) -> None:
    """The connection stays open and nothing comes: the message says how far it was."""
    hub.files = {"m.gguf": large(9 * 2**20)}
    hub.silent_after = 2**20
    code, report = downloaded(hub, tmp_path / "m" / "one", "--stall-seconds", "1")
    assert (code, report["reason"]) == (1, Reason.STALLED_DOWNLOAD)
    assert "no byte came for " in report["message"]
    assert "of 9,437,184 bytes" in report["message"]


def test_an_address_that_expired_is_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    """A signed address is good for an hour, a download may take longer."""
    hub.cdn_statuses = [403, 503]
    assert downloaded(hub, tmp_path / "m" / "one", names=("m-Q4.gguf",))[0] == 0
    assert (
        hub.requests.count("HEAD /org/tiny/resolve/0123456789abcdef0123456789abcdef01234567/m-Q4.gguf") == 2
    )


def test_a_hub_that_serves_no_parts_serves_the_whole(hub: Hub, tmp_path: Path) -> None:
    """Some mirrors and proxies ignore the range of a request."""
    hub.whole = True
    assert downloaded(hub, tmp_path / "m" / "one")[0] == 0
    assert (tmp_path / "m" / "one" / "m-Q8.gguf").read_bytes() == FILES["m-Q8.gguf"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_proxy_of_the_environment_is_used_for_every_request(
    hub: Hub, tmp_path: Path, *, whole: bool
) -> None:
    """Listing, addresses, parts and whole files: where there is no other way out, one request beside it would fail."""
    proxy, hub.whole = elsewhere(hub), whole
    assert downloaded(hub, tmp_path / "m" / "one", variables=proxy)[0] == 0
    assert hub.proxied == len(hub.requests) > 0


@pytest.mark.parametrize("exempt", ["0.0.0.0", "0.0.0.0/8", "10.0.0.0/8, 0.0.0.0/30", "*"])
@pytest.mark.parametrize("whole", [False, True])
def test_hosts_and_networks_of_no_proxy_are_asked_directly(
    hub: Hub, tmp_path: Path, exempt: str, *, whole: bool
) -> None:
    """As kubectl and curl read it, in every library that sends requests."""
    proxy, hub.whole = elsewhere(hub), whole
    assert downloaded(hub, tmp_path / "m" / "one", variables=proxy | {"NO_PROXY": exempt})[0] == 0
    assert hub.requests
    assert hub.proxied == 0


@pytest.mark.parametrize("whole", [False, True])
def test_each_hop_of_a_download_has_the_proxy_of_its_own_host(
    hub: Hub, tmp_path: Path, *, whole: bool
) -> None:
    """The hub by the proxy, and directly the CDN that it sends to."""
    proxy, hub.whole = elsewhere(hub), whole
    exempt = {"NO_PROXY": f"0.0.0.0:{hub.cdn.rpartition(':')[2]}"}
    assert downloaded(hub, tmp_path / "m" / "one", variables=proxy | exempt)[0] == 0
    assert 0 < hub.proxied < len(hub.requests)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "junk://x", "%"])
@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
def test_a_proxy_that_no_request_uses_breaks_no_download(
    hub: Hub, tmp_path: Path, name: str, proxy: str
) -> None:
    """ALL_PROXY is curl's alone, and often one of SOCKS; HTTPS_PROXY is not for this hub, which is asked by HTTP."""
    assert downloaded(hub, tmp_path / "m" / "one", variables={name: proxy})[0] == 0


def test_a_proxy_that_is_none_of_http_is_named_with_the_remedy(hub: Hub, tmp_path: Path) -> None:
    """One sentence for the condition, without the credentials; no traceback of the library that cannot use it."""
    elsewhere(hub)
    variables = {"HTTP_PROXY": "socks5://user:secret@127.0.0.1:9", "http_proxy": ""}
    code, report = downloaded(hub, tmp_path / "m" / "one", variables=variables)
    assert code == 1
    assert report["message"].startswith("socks5://127.0.0.1:9, the proxy for http://")
    assert "is none of HTTP. Remedy: " in report["message"]


def test_a_hub_that_does_not_answer_is_named_with_the_proxy_that_was_asked(hub: Hub, tmp_path: Path) -> None:
    """The proxy may be what does not answer; its credentials are no part of a condition."""
    elsewhere(hub)
    variables = {"HTTP_PROXY": "http://user:secret@127.0.0.1:9", "http_proxy": ""}
    code, report = downloaded(hub, tmp_path / "m" / "one", variables=variables)
    assert (code, report["reason"]) == (1, Reason.HUB_UNAVAILABLE)
    assert "(by way of the proxy http://127.0.0.1:9)" in report["message"]
    assert "secret" not in report["message"]


def test_this_machine_is_never_asked_through_a_proxy(hub: Hub, tmp_path: Path) -> None:
    """A mirror on loopback is no place that a proxy could reach."""
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    assert downloaded(hub, tmp_path / "m" / "one", variables=proxy)[0] == 0


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_authority_of_the_users_own_is_trusted_for_every_request(tmp_path: Path, name: str) -> None:
    """Listing, small files and parts; by neither variable the hub is trusted, and it is said."""
    files = tls_files(tmp_path / "tls")
    with served(server_context(files)) as hub:
        code, report = downloaded(hub, tmp_path / "m" / "one")
        assert (code, report["reason"]) == (1, Reason.HUB_UNAVAILABLE)
        assert "certificate" in report["message"].lower()
        trusting = {name: str(files.authority)}
        assert downloaded(hub, tmp_path / "m" / "one", variables=trusting)[0] == 0
    assert (tmp_path / "m" / "one" / "m-Q8.gguf").read_bytes() == FILES["m-Q8.gguf"]


def test_authorities_that_do_not_exist_are_said_before_a_request(hub: Hub, tmp_path: Path) -> None:
    """A ConfigMap that is missing in the Model's namespace is no file."""
    code, report = downloaded(hub, tmp_path / "m" / "one", variables={"SSL_CERT_FILE": "/nowhere/ca.crt"})
    assert (code, report["reason"], hub.requests) == (1, Reason.FETCH_FAILED, [])
    assert "/nowhere/ca.crt" in report["message"]
    assert "FLEXINFER_DOWNLOAD_CA_CONFIGMAP" in report["message"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_said_before_a_byte_is_fetched(hub: Hub, small_disk: Path) -> None:
    """With what is needed and what is free; nothing is left behind (reliability X2)."""
    hub.files = {"m.gguf": large(30 * 2**20)}
    code, report = downloaded(hub, small_disk / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.DISK_FULL)
    assert (
        "1 file of 31,457,280 bytes: 31,457,280 more and 31,457,280 to spare are needed" in report["message"]
    )
    assert "25,165,824 free, 37,748,736 too few" in report["message"]
    assert report["lacks"] == 2 * 31_457_280 - 25_165_824
    assert hub.fetched == []
    assert names(small_disk / "m") == set()


def test_a_disk_that_becomes_full_ends_the_download_and_gets_its_space_back(
    hub: Hub, small_disk: Path
) -> None:
    """Another writer took the rest; once that is gone the next download succeeds (reliability X2)."""
    content = large(10 * 2**20)
    hub.files = {"m.gguf": content}
    hub.hold_after(2 * 2**20)
    process = started(hub, small_disk / "m" / "one")
    try:
        hub.wait_sent(2 * 2**20)
        other = small_disk / "other"
        with contextlib.suppress(OSError), other.open("wb") as file:
            while True:
                file.write(bytes(2**20))
        hub.release()
        assert process.wait(patient(60)) == 1
    finally:
        process.kill()
        process.wait()
    assert names(small_disk / "m") == set()
    other.unlink()
    assert downloaded(hub, small_disk / "m" / "one")[0] == 0
    assert (small_disk / "m" / "one" / "m.gguf").read_bytes() == content


def test_a_folder_that_cannot_be_written_is_said(hub: Hub, small_disk: Path) -> None:
    """A volume that is mounted read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, report = downloaded(hub, small_disk / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.FETCH_FAILED)
    assert "Read-only file system" in report["message"]


def test_files_of_one_commit_are_served_although_the_revision_moves(hub: Hub, tmp_path: Path) -> None:
    """Parts of the previous commit's file are never taken for those of the next (reliability X6)."""
    hub.files = {"m.gguf": large(20 * 2**20)}
    killed(hub, tmp_path / "m" / "one", 5 * 2**20)
    moved = bytes(reversed(large(20 * 2**20)))
    hub.commit, hub.files = OTHER, {"m.gguf": GGUF + moved[len(GGUF) :]}
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["revision"]) == (0, OTHER)
    assert (tmp_path / "m" / "one" / "m.gguf").read_bytes() == hub.files["m.gguf"]
    assert names(tmp_path / "m" / "one") == {"m.gguf"}


def test_a_file_that_no_engine_can_load_is_named(hub: Hub, tmp_path: Path) -> None:
    """A git-lfs pointer, although the hub serves exactly these bytes (reliability X17)."""
    hub.files = {"m.gguf": b"version https://git-lfs.github.com/spec/v1\noid sha256:x\nsize 5\n"}
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.INCOMPLETE_FILE)
    assert "m.gguf is a git-lfs pointer" in report["message"]
    assert not (tmp_path / "m" / "one").exists()


@pytest.mark.parametrize("path", ["../x.json", "a/../../x.json", "/etc/x.json", "a//b.json", "a\\b.json"])
def test_a_path_that_leaves_the_folder_is_refused(hub: Hub, tmp_path: Path, path: str) -> None:
    """Whatever a repository lists (reliability X12)."""
    hub.files = {path: b"{}"}
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.FETCH_FAILED)
    assert "unsafe path" in report["message"]
    assert hub.fetched == []


PICKLES = {
    "pytorch_model.bin": b"p",
    "modeling_x.py": b"import os",
    "config.json": b'{"auto_map": {"AutoModel": "modeling_x.X"}}',
}


def test_files_that_can_run_code_are_left_out_and_named(hub: Hub, tmp_path: Path) -> None:
    """Beside safe weights they are not needed; the report says which (reliability X16)."""
    hub.files = PICKLES | {"model.safetensors": b"s", "params_shard_0.bin": b"m"}
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, report["unsafe"]) == (0, "")
    assert report["left_out"] == "2 files that can run code (modeling_x.py, pytorch_model.bin)"
    assert names(tmp_path / "m" / "one") == {"model.safetensors", "params_shard_0.bin", "config.json"}
    assert not {"pytorch_model.bin", "modeling_x.py"} & set(hub.fetched)
    assert downloaded(hub, tmp_path / "m" / "one")[1]["left_out"] == report["left_out"]


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({}, "it holds its weights in no safe format"),
        ({"allow": ("*.py",)}, "modeling_x.py"),
        ({"names": ("pytorch_model.bin",)}, "one of them is named in spec.config"),
    ],
)
def test_weights_that_are_pickles_are_refused_unless_the_spec_allows_them(
    hub: Hub, tmp_path: Path, selection: dict[str, Any], words: str
) -> None:
    """X16: before a byte is fetched, with the remedy."""
    hub.files = dict(PICKLES)
    code, report = downloaded(hub, tmp_path / "m" / "one", **selection)
    assert (code, report["reason"], hub.fetched) == (1, Reason.UNSAFE_FORMAT, [])
    assert words in report["message"]
    assert "spec.config.allowUnsafeFormats: true" in report["message"]
    code, report = downloaded(hub, tmp_path / "m" / "two", unsafe=True, **selection)
    assert code == 0
    assert "can run code" in report["unsafe"]


def test_progress_is_served_on_a_port_while_bytes_come(hub: Hub, tmp_path: Path) -> None:
    """Bytes, total, rate and file, as JSON; nothing else."""
    hub.files = {"m.gguf": large(20 * 2**20)}
    port = free_port()
    hub.hold_after(6 * 2**20)
    process = started(hub, tmp_path / "m" / "one", "--progress-port", str(port))
    try:
        hub.wait_sent(6 * 2**20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=patient(5)) as response:
            answer = json.loads(response.read())
        assert set(answer) == {"bytes", "totalBytes", "bytesPerSecond", "file"}
        assert answer["totalBytes"] == 20 * 2**20
        assert 0 <= answer["bytes"] < answer["totalBytes"]
        hub.release()
        assert process.wait(patient(60)) == 0
    finally:
        process.kill()
        process.wait()
