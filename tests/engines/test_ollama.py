"""What FlexInfer relies on of Ollama, on the real program with our own pull of a small model from a registry on loopback, on the CPU.

`make test-long` builds it, once, and runs these tests; elsewhere they are skipped by name.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flexinfer.backends.checks import STORE_CHECKS
from flexinfer.local.supervisor.provisioning import small_model
from flexinfer.sources.ollama import REGISTRY
from tests.engines.condition import condition
from tests.engines.installed import ollama
from tests.engines.installed.required import required
from tests.engines.program import GRACE_SECONDS, HELLO, Make, Program, seconds
from tests.engines.text_checks import CHAT, TextChecks
from tests.instance import until
from tests.integration.prefetcher.hub import digest
from tests.integration.prefetcher.program import downloaded
from tests.integration.prefetcher.registry import MODEL, TAG, served
from tests.patience import patient

pytestmark = pytest.mark.slow
TEMPLATE = b"{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
LONG = 900
"""Tokens that the context has room for: many times as long as a test needs to see that the stream continues."""


def pulled(into: Path, weights: bytes) -> Path:
    """Pull a model with our own program of the download Job; returns its store."""
    with served() as registry:
        layers = {"model": weights, "template": TEMPLATE, "params": b'{"stop": ["<|im_end|>"]}'}
        registry.add(MODEL, TAG, layers)
        name: dict[str, Any] = {"repository": MODEL, "revision": TAG, "registry": REGISTRY}
        code, report = downloaded(registry, into, "--registry", registry.address, **name)
    assert code == 0, report
    return into


@pytest.fixture(scope="module")
def weights() -> Path:
    """Return the small model; skips where that is not installed, or Ollama is not to run."""
    required("ollama", ollama.program)
    path = small_model()
    if path is None:
        pytest.skip("no small model is installed")
    return path


@pytest.fixture(scope="module")
def store(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with the small model."""
    return pulled(tmp_path_factory.mktemp("claim") / "store", weights.read_bytes())


@pytest.fixture(scope="module")
def make(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Return what makes a server that is not started."""
    folder, made = tmp_path_factory.mktemp("ollama"), []

    def one(
        path: Path = store, host: str = "", extra: tuple[str, ...] = (), limit_kib: int = 0, **more: Any
    ) -> Program:
        made.append(Program("ollama", path, folder, host=host, extra=extra, more=more, limit_kib=limit_kib))
        made[-1].environment["HOME"] = str(folder)
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEXINFER_PROGRAM_OLLAMA", str(ollama.program()))
        yield one
    for program in made:
        program.end()


def chat(program: Program, **fields: Any) -> tuple[int, Any]:
    """Ask for an answer of four tokens."""
    body: Mapping[str, Any] = {"model": program.served, "messages": HELLO, "max_tokens": 4}
    return program.ask(CHAT, {**body, **fields})


def finished(program: Program) -> Iterator[str]:
    """Begin a long stream and yield its events, once its first token has come."""
    events = program.stream(LONG).events()
    next(events)
    return events


class TestStore(TextChecks):
    """One method a check."""

    def test_variables(self, engine: Program) -> None:
        """What it has loaded says so."""
        assert chat(engine)[0] == 200
        (loaded,) = engine.ask("/api/ps")[1]["models"]
        assert loaded["context_length"] == 1024

    def test_store(self, engine: Program) -> None:
        """As `ollama list` prints it."""
        (listed,) = engine.ask("/api/tags")[1]["models"]
        assert listed["name"] == "tiny:1b"

    def test_no_cloud(self, engine: Program) -> None:
        """As its log says, and an answer to a name of its cloud."""
        assert "Ollama cloud disabled: true" in engine.log.read_text()
        assert chat(engine, model="gpt-oss:120b-cloud")[0] in (403, 404)

    def test_unknown_flag(self, make: Make) -> None:
        """Its command takes none."""
        program = make(extra=("--no-such-flag",)).start()
        assert program.code(patient(60)) != 0
        assert "--no-such-flag" in program.last_lines()

    def test_missing_weights(self, make: Make, tmp_path: Path) -> None:
        """As with a claim that was emptied: the probe waits for the name."""
        program = make(tmp_path).start().ready()
        assert "tiny:1b" not in json.dumps(program.ask(program.backend.health)[1])

    def test_cut_weights(self, make: Make, store: Path, weights: Path, tmp_path: Path) -> None:
        """After a fault of the disk: what is pulled was whole."""
        whole = weights.read_bytes()
        assert chat(self.damaged(make, store, tmp_path, whole, whole[: len(whole) // 2]))[0] >= 400

    def test_wrong_weights(self, make: Make, store: Path, weights: Path, tmp_path: Path) -> None:
        """The same."""
        damaged = self.damaged(make, store, tmp_path, weights.read_bytes(), b"<html>not found</html>")
        assert chat(damaged)[0] >= 400

    def test_wrong_architecture(self, make: Make, store: Path, weights: Path, tmp_path: Path) -> None:
        """In the words of the llama-server that it starts."""
        whole = weights.read_bytes()
        at = whole.index(b"llama", whole.index(b"general.architecture"))
        other = whole[:at] + b"llamx" + whole[at + 5 :]
        code, answer = chat(self.damaged(make, store, tmp_path, whole, other))
        assert code >= 500
        assert "unknown model architecture: 'llamx'" in answer["error"]["message"]

    def test_out_of_memory(self, make: Make) -> None:
        """36 GB for the contexts of 200 requests, of 4 that it may have."""
        program = make(contextSize=8192, parallel=200, limit_kib=4_000_000).start().ready()
        code, answer = chat(program)
        assert code >= 500
        assert re.search(r"insufficient memory \(attempted to allocate \S+ MB\)", answer["error"]["message"])
        program.end()

    def test_last_error(self, engine: Program, make: Make) -> None:
        """As of an address that is in use."""
        second = make(host=engine.host).start()
        assert second.code(patient(60)) != 0
        assert "Error: listen tcp" in condition(second)

    @staticmethod
    def damaged(make: Make, store: Path, folder: Path, whole: bytes, instead: bytes) -> Program:
        """Start an engine on a copy of the store whose weights are other bytes."""
        copy = folder / "store"
        shutil.copytree(store, copy)
        (copy / "blobs" / f"sha256-{digest(whole)}").write_bytes(instead)
        return make(copy).start().ready()

    def test_port_in_use(self, engine: Program, make: Make) -> None:
        """Two engines on one address."""
        second = make(host=engine.host).start()
        assert second.code(patient(60)) != 0
        assert "address already in use" in second.last_lines()

    def test_health(self, engine: Program) -> None:
        """It has the text that the backend waits for."""
        code, models = engine.ask(engine.backend.health)
        assert code == 200
        assert '"tiny:1b"' in json.dumps(models)

    def test_served_name(self, engine: Program) -> None:
        """The one that the proxy writes into each request."""
        assert [model["id"] for model in engine.ask("/v1/models")[1]["data"]] == [engine.served]

    def test_first_request(self, fresh: Program) -> None:
        """Nothing is loaded before it."""
        assert not fresh.ask("/api/ps")[1]["models"]
        assert chat(fresh)[0] == 200
        assert len(fresh.ask("/api/ps")[1]["models"]) == 1

    def test_keeps(self, engine: Program) -> None:
        """FlexInfer stops the whole engine when it is idle."""
        assert chat(engine)[0] == 200
        (loaded,) = engine.ask("/api/ps")[1]["models"]
        assert int(loaded["expires_at"][:4]) > time.gmtime().tm_year + 100

    def test_too_long(self, engine: Program) -> None:
        """It is cut to the context, and the answer counts what was read."""
        code, answer = chat(engine, messages=[{"role": "user", "content": "one two three " * 700}])
        assert 400 <= code < 500 or answer["usage"]["prompt_tokens"] <= 1024

    def test_parallel(self, engine: Program) -> None:
        """A short stream ends while a long one that began before it continues."""
        long = engine.stream(LONG)
        events = long.events()
        next(events)
        assert chat(engine)[0] == 200
        assert "[DONE]" not in next(events)
        long.close()

    def test_after_abort(self, make: Make) -> None:
        """The one slot is free."""
        program = make(parallel=1).start().ready()
        stream = program.stream(LONG)
        next(iter(stream.events()))
        stream.close()
        assert chat(program)[0] == 200
        program.end()

    def test_terminate_stream(self, fresh: Program) -> None:
        """What the client sees is true: the answer was not whole."""
        events = finished(fresh)
        began = time.monotonic()
        fresh.kill(signal.SIGTERM)
        rest = list(events)
        fresh.code(GRACE_SECONDS)
        assert seconds(began) < GRACE_SECONDS
        assert "[DONE]" not in rest

    def test_killed_stream(self, fresh: Program) -> None:
        """As by the kernel, for want of memory."""
        events = finished(fresh)
        fresh.kill()
        assert "[DONE]" not in list(events)

    def test_killed_runner(self, fresh: Program) -> None:
        """The larger of the two processes, so that the kernel chooses it."""
        events = finished(fresh)
        for number in set(fresh.left()) - {fresh.process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        assert "[DONE]" not in list(events)
        until(lambda: chat(fresh)[0] == 200, 30, "it answers no more")

    def test_release(self, fresh: Program) -> None:
        """No runner keeps a GPU."""
        assert chat(fresh)[0] == 200
        fresh.kill(signal.SIGTERM)
        fresh.code()
        until(lambda: not fresh.left(), 5, "processes are left")


def test_every_check_is_one_of_the_suite_and_has_its_meaning() -> None:
    """At least 25 of them."""
    assert {f"test_{name}" for name in STORE_CHECKS} == {
        name for name in dir(TestStore) if name.startswith("test_")
    }
    assert len(STORE_CHECKS) >= 25
