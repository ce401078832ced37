"""The download Job's program against an Ollama registry on loopback: Ollama's own store, completely or not at all."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.api.reasons import Reason
from flexinfer.sources import ollama
from tests.integration.prefetcher.hub import GGUF, digest
from tests.integration.prefetcher.program import downloaded, elsewhere, killed
from tests.integration.prefetcher.registry import MODEL, TAG, WEIGHTS, Registry, served

pytestmark = pytest.mark.integration
NAME = {"repository": MODEL, "revision": TAG, "registry": ollama.REGISTRY}
MANIFEST = "manifests/registry.ollama.ai/library/tiny/1b"


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Serve the registry for one test."""
    with served() as running:
        yield running


def pulled(registry: Registry, into: Path, *options: str, **selection: Any) -> tuple[int, dict[str, Any]]:
    """Run a download from the registry to its end."""
    return downloaded(registry, into, "--registry", registry.address, *options, **NAME | selection)


def test_a_name_becomes_a_store_of_ollama(registry: Registry, tmp_path: Path) -> None:
    """Layers under their digests and the manifest under host, namespace, model and tag; the revision is the manifest's digest."""
    into = tmp_path / "m" / "one"
    code, report = pulled(registry, into)
    manifest = registry.manifests[MODEL, TAG]
    assert code == 0, report
    assert (into / MANIFEST).read_bytes() == manifest
    assert report["revision"] == hashlib.sha256(manifest).hexdigest()
    assert report["bytes"] == len(manifest) + sum(map(len, registry.files.values()))
    blobs = {path.name: path.read_bytes() for path in (into / "blobs").iterdir()}
    assert blobs == {name.replace(":", "-"): data for name, data in registry.files.items()}
    described = json.loads((into / ".flexinfer.json").read_text())
    assert (described["source"], len(described["files"])) == ("ollama://tiny:1b", 5)
    assert all(len(file["sha256"]) == 64 for file in described["files"])


def test_a_store_that_is_complete_is_not_asked_for_again(registry: Registry, tmp_path: Path) -> None:
    """The manifest beside the files says what they are."""
    pulled(registry, tmp_path / "m" / "one")
    registry.requests.clear()
    assert (pulled(registry, tmp_path / "m" / "one")[0], registry.requests) == (0, [])


def test_layers_that_two_tags_have_in_common_are_downloaded_once(registry: Registry, tmp_path: Path) -> None:
    """Another tag of the same weights is a small download."""
    registry.add(MODEL, "latest", {"model": WEIGHTS, "template": b"{{ .System }}"})
    pulled(registry, tmp_path / "m" / "one")
    registry.sent.clear()
    assert pulled(registry, tmp_path / "m" / "two", revision="latest")[0] == 0
    assert f"sha256:{digest(WEIGHTS)}" not in registry.fetched


def test_a_store_is_of_one_tag_although_it_moves(registry: Registry, tmp_path: Path) -> None:
    """What is left of the previous version is never taken for the next: manifests of two versions may have the same size."""
    previous = GGUF + bytes(20 * 2**20)
    registry.add(MODEL, TAG, {"model": previous})
    killed(registry, tmp_path / "m" / "one", 5 * 2**20, "--registry", registry.address, **NAME)
    registry.add(MODEL, TAG, {"model": GGUF + bytes(20 * 2**20 - 1) + b"2"})
    assert pulled(registry, tmp_path / "m" / "one")[0] == 0
    assert (tmp_path / "m" / "one" / MANIFEST).read_bytes() == registry.manifests[MODEL, TAG]
    assert not (tmp_path / "m" / "one" / "blobs" / f"sha256-{digest(previous)}").exists()


def test_a_killed_pull_goes_on_where_it_stopped(registry: Registry, tmp_path: Path) -> None:
    """As a download of the hub does: at most the parts in flight come again."""
    weights = GGUF + bytes(40 * 2**20)
    registry.add(MODEL, TAG, {"model": weights})
    killed(registry, tmp_path / "m" / "one", 30 * 2**20, "--registry", registry.address, **NAME)
    assert not (tmp_path / "m" / "one").exists()
    assert pulled(registry, tmp_path / "m" / "one")[0] == 0
    assert sum(registry.sent.values()) < len(weights) + 34 * 2**20


def test_wrong_bytes_are_refused_and_deleted(registry: Registry, tmp_path: Path) -> None:
    """A layer is its digest (reliability X5)."""
    registry.corrupt.add(f"sha256:{digest(WEIGHTS)}")
    code, report = pulled(registry, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.CHECKSUM_MISMATCH)
    assert not (tmp_path / "m" / "one").exists()


def test_a_registry_that_serves_no_parts_and_sends_nobody_away_serves_the_whole(
    registry: Registry, tmp_path: Path
) -> None:
    """A plain mirror is enough."""
    registry.redirects, registry.whole = False, True
    assert pulled(registry, tmp_path / "m" / "one")[0] == 0
    assert (tmp_path / "m" / "one" / "blobs" / f"sha256-{digest(WEIGHTS)}").read_bytes() == WEIGHTS


def test_a_name_of_the_hub_is_pulled_from_the_hub(registry: Registry, tmp_path: Path) -> None:
    """Its registry is at the hub's address, and Ollama looks for it under the name of that host."""
    registry.add("org/repo", "Q4", {"model": WEIGHTS})
    name: dict[str, Any] = {"repository": "org/repo", "revision": "Q4", "registry": "hf.co"}
    assert downloaded(registry, tmp_path / "m" / "one", **name)[0] == 0
    assert (tmp_path / "m" / "one" / "manifests" / "hf.co" / "org" / "repo" / "Q4").is_file()


@pytest.mark.parametrize(
    ("status", "reason"),
    [(429, Reason.HUB_UNAVAILABLE), (503, Reason.HUB_UNAVAILABLE), (401, Reason.GATED_REPOSITORY)],
)
def test_an_error_of_the_registry_is_reported_with_its_status(
    registry: Registry, tmp_path: Path, status: int, reason: Reason
) -> None:
    """X8: in one sentence that names the registry and the model."""
    registry.status = status
    code, report = pulled(registry, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, reason)
    assert f"HTTP {status}" in report["message"]
    assert f"the registry at {registry.address} " in report["message"]
    assert "tiny:1b" in report["message"]


def test_a_private_name_needs_a_token_that_no_other_host_gets(registry: Registry, tmp_path: Path) -> None:
    """X9, X10: the message names the Secret; the place of the layers sees no token."""
    registry.token = "canary"
    mounted = ("--secret", "mine", "--secret-folder", str(tmp_path))
    code, report = pulled(registry, tmp_path / "m" / "one", *mounted)
    assert (code, report["reason"]) == (1, Reason.GATED_REPOSITORY)
    assert (
        "without a token: HTTP 401. Remedy: put a token that may read it into the Secret mine"
        in report["message"]
    )
    (tmp_path / "token").write_text("canary")
    assert pulled(registry, tmp_path / "m" / "one", *mounted)[0] == 0
    assert {place for place, _ in registry.tokens} == {"registry"}


def test_a_name_that_the_registry_does_not_have_is_said(registry: Registry, tmp_path: Path) -> None:
    """Before a byte is fetched, with what to do."""
    code, report = pulled(registry, tmp_path / "m" / "one", revision="2b")
    assert (code, report["reason"]) == (1, Reason.SOURCE_NOT_FOUND)
    assert "has no tiny:2b. Remedy: correct spec.source" in report["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"{}", b'{"layers": []}', b"[" * 100_000, b'{"layers": [{"digest": "sha256:../../x", "size": 1}]}',
        b'{"layers": [{"digest": "sha256:' + b"a" * 64 + b'", "size": -1}]}',
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(registry: Registry, tmp_path: Path, body: bytes) -> None:
    """X12: a digest is a digest, so no layer leaves the folder."""
    registry.manifests[MODEL, TAG] = body
    code, report = pulled(registry, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.FETCH_FAILED)
    assert "answers with no manifest of tiny:1b: " in report["message"]
    assert f"/manifests/{TAG} answers with " in report["message"]
    assert "where a manifest in JSON is expected (" in report["message"]
    assert "Remedy: correct the mirror (FLEXINFER_OLLAMA_REGISTRY) or spec.source" in report["message"]
    assert registry.fetched == []


def test_weights_that_are_shorter_than_their_header_says_are_named(
    registry: Registry, tmp_path: Path
) -> None:
    """X17: although the registry has exactly these bytes."""
    registry.add(
        MODEL, TAG, {"model": b"GGUF" + (3).to_bytes(4, "little") + (2**40).to_bytes(8, "little") * 2}
    )
    code, report = pulled(registry, tmp_path / "m" / "one")
    assert (code, report["reason"]) == (1, Reason.INCOMPLETE_FILE)


@pytest.mark.parametrize(("exempt", "proxied"), [("10.0.0.0/8", True), ("0.0.0.0/8", False)])
def test_a_registry_is_asked_by_the_proxy_that_the_environment_names_for_it(
    registry: Registry, tmp_path: Path, exempt: str, *, proxied: bool
) -> None:
    """Manifest, addresses of layers and their bytes."""
    variables = elsewhere(registry) | {"NO_PROXY": exempt}
    options = ("--registry", registry.address)
    assert downloaded(registry, tmp_path / "m" / "one", *options, variables=variables, **NAME)[0] == 0
    assert registry.requests
    assert registry.proxied == (len(registry.requests) if proxied else 0)
