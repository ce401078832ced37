"""What FlexInfer relies on of each engine that answers text, on its real program.

A check without the program does not count: it is skipped by name. `make test` runs llama.cpp as the program of PATH, or that of
`FLEXINFER_PROGRAM_LLAMACPP`, which is else our own server of it; `make test-long` runs llama-server and vLLM too, and installs them.
`flexinfer.backends.checks` says what each check means, and the page of backends which of them have run.
"""

import contextlib
import importlib.metadata
import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flexinfer import backends
from flexinfer.backends.checks import CHECKS
from flexinfer.backends.failures import REMEDIES, Kind
from flexinfer.local.supervisor.provisioning import small_model
from localkube.kubelet.image_runtimes import NoRuntimeError
from tests.engines.condition import condition
from tests.engines.installed import llama_server, ollama, vllm
from tests.engines.installed.required import required
from tests.engines.program import GRACE_SECONDS, HELLO, Make, Program, seconds
from tests.engines.text_checks import TextChecks
from tests.instance import until
from tests.patience import patient

pytestmark = pytest.mark.slow


def gguf(_folder: Path) -> Path | None:
    """Return the small model, None if it is not installed."""
    return small_model()


class Engine(NamedTuple):
    """A program and its weights. `program` is None for what is on PATH; `file` is the one with the weights in their folder, if they are one."""

    name: str
    backend: str
    program: Callable[[], Path | None] | None
    weights: Callable[[Path], Path | None]
    other_architecture: Callable[[Path, Path], Path]
    """Makes a copy of the weights, in a folder, of an architecture that no engine has."""
    too_large: Mapping[str, Any]
    """Fields of a Program whose memory for requests this machine does not have."""
    file: str = ""
    long: int = 900
    """As many tokens as the context has room for: many times as long as a test needs to see that the stream continues."""

    def prepare(self, patch: pytest.MonkeyPatch, folder: Path) -> Path:
        """Choose the program and return the weights; skips where either is missing."""
        if self.program is not None:
            path = required(self.name, self.program)
            patch.setenv(f"FLEXINFER_PROGRAM_{self.backend.upper()}", str(path))
        weights = self.weights(folder)
        if weights is None:
            pytest.skip(f"{self.name}: its weights are not installed; not run")
        return weights

    def damaged(self, weights: Path, folder: Path, damage: Callable[[bytes], bytes]) -> Path:
        """Return a copy of the weights with other bytes."""
        copy = folder / f"damaged-{weights.name}"
        if self.file:
            shutil.copytree(weights, copy)
        (copy / self.file).write_bytes(damage((weights / self.file).read_bytes()))
        return copy


def another_gguf(weights: Path, folder: Path) -> Path:
    """Return a copy of a GGUF file whose general.architecture is another."""
    whole = weights.read_bytes()
    at = whole.index(b"llama", whole.index(b"general.architecture"))
    copy = folder / "other.gguf"
    copy.write_bytes(whole[:at] + b"llamx" + whole[at + 5 :])
    return copy


def another_config(weights: Path, folder: Path) -> Path:
    """Return a copy of a folder whose config.json has another type of model."""
    copy = folder / "other"
    shutil.copytree(weights, copy)
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "llamx", "architectures": ["LlamxForCausalLM"]}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


LARGE_CONTEXT = {"more": {"contextSize": 2_000_000}, "limit_kib": 4_000_000}
"""44 GB, of 4 that it may have."""
ENGINES = (
    Engine("llamacpp", "llamacpp", None, gguf, another_gguf, LARGE_CONTEXT),
    Engine("llama-server", "llamacpp", llama_server.program, gguf, another_gguf, LARGE_CONTEXT),
    Engine(
        "vllm",
        "vllm",
        vllm.program,
        vllm.tiny_model,
        another_config,
        {"set_variables": {"VLLM_CPU_KVCACHE_SPACE": "20000"}},
        "model.safetensors",
        long=3800,
    ),
)


@pytest.fixture(scope="module", params=ENGINES, ids=lambda engine: engine.name)
def chosen(request: pytest.FixtureRequest) -> Engine:
    """Return which engine the checks are for."""
    engine: Engine = request.param
    return engine


@pytest.fixture(scope="module")
def made(chosen: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Make]]:
    """Return the weights and what makes engines of them; skips where program or weights are missing."""
    folder, programs = tmp_path_factory.mktemp(chosen.name), []
    with pytest.MonkeyPatch.context() as patch:
        weights = chosen.prepare(patch, folder)

        def make(path: Path = weights, host: str = "", extra: tuple[str, ...] = (), **fields: Any) -> Program:
            set_variables = fields.pop("set_variables", {})
            programs.append(Program(chosen.backend, path, folder, host=host, extra=extra, **fields))
            programs[-1].environment |= set_variables
            return programs[-1]

        try:
            make()
        except NoRuntimeError as error:
            pytest.skip(f"{chosen.name}: {error}; not run")
        yield weights, make
        for program in programs:
            program.end()


@pytest.fixture(scope="module")
def weights(made: tuple[Path, Make]) -> Path:
    """Return the weights of the engine."""
    return made[0]


@pytest.fixture(scope="module")
def make(made: tuple[Path, Make]) -> Make:
    """Return what makes an engine that is not started."""
    return made[1]


def failed(program: Program) -> str:
    """Wait until an engine has ended with an error; returns its last lines."""
    assert program.start().code(patient(program.setup.ready_seconds / 2)) != 0
    return program.last_lines()


def said(program: Program) -> str:
    """Wait until an engine has ended with an error; returns the message of its Model."""
    assert failed(program)
    return condition(program)


class TestEngine(TextChecks):
    """One method a check."""

    def test_command_line(self, engine: Program) -> None:
        """It would not be ready otherwise."""
        assert not engine.ended

    def test_unknown_flag(self, make: Make) -> None:
        """As `extraArgs` may have one."""
        assert "--no-such-flag" in failed(make(extra=("--no-such-flag",)))

    def test_missing_weights(self, make: Make, tmp_path: Path) -> None:
        """The path is in the Model's condition then."""
        message = said(make(tmp_path / "missing.gguf"))
        assert "missing.gguf" in message
        assert REMEDIES[Kind.MISSING] in message

    def test_cut_weights(self, make: Make, chosen: Engine, weights: Path, tmp_path: Path) -> None:
        """As after a full disk."""
        half = chosen.damaged(weights, tmp_path, lambda whole: whole[: len(whole) // 2])
        assert REMEDIES[Kind.BROKEN] in said(make(half))

    def test_wrong_weights(self, make: Make, chosen: Engine, weights: Path, tmp_path: Path) -> None:
        """An answer of a hub in place of the file, say."""
        page = chosen.damaged(weights, tmp_path, lambda _: b"<html>not found</html>")
        assert REMEDIES[Kind.BROKEN] in said(make(page))

    def test_wrong_architecture(self, make: Make, chosen: Engine, weights: Path, tmp_path: Path) -> None:
        """As of a model that is newer than the image."""
        message = said(make(chosen.other_architecture(weights, tmp_path)))
        assert "llamx" in message
        assert REMEDIES[Kind.ARCHITECTURE] in message

    def test_out_of_memory(self, make: Make, chosen: Engine) -> None:
        """What it says itself, before the kernel would end it."""
        program = make(**chosen.too_large)
        message = said(program)
        assert re.search(r"\d+\.?\d* (?:MB|GiB)", message)
        assert program.backend.less_memory in message

    def test_last_error(self, make: Make, chosen: Engine, weights: Path, tmp_path: Path) -> None:
        """The last line says only that it ends."""
        page = chosen.damaged(weights, tmp_path, lambda _: b"<html>not found</html>")
        program = make(page)
        message, last = said(program), failed(program).strip().splitlines()[-1]
        assert last not in message
        assert re.search(r"invalid magic characters|deserializing header", message)

    def test_port_in_use(self, engine: Program, make: Make) -> None:
        """Two engines on one address."""
        assert failed(make(host=engine.host))

    def test_loading(self, make: Make) -> None:
        """The first answers, if there are any before it is ready."""
        program = make().start()
        codes: list[int] = []

        def answers() -> bool:
            codes.append(program.ask(program.backend.health)[0])
            return codes[-1] == 200

        until(answers, program.setup.ready_seconds, "not ready")
        assert set(codes[:-1]) <= {0, 503}
        program.end()

    def test_health(self, engine: Program) -> None:
        """Again and again."""
        assert [engine.healthy() for _ in range(3)] == [True] * 3

    def test_served_name(self, engine: Program) -> None:
        """The one that the proxy writes into each request."""
        _, models = engine.ask("/v1/models")
        assert "m" in [model["id"] for model in models["data"]]

    def test_too_long(self, engine: Program) -> None:
        """A thousand and more tokens into a context of 1,024."""
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": "one two three " * 700}],
            "max_tokens": 4,
        }
        code, _ = engine.ask("/v1/chat/completions", body)
        assert 400 <= code < 500

    def test_metrics(self, engine: Program) -> None:
        """What a drain waits for."""
        until(lambda: engine.requests() == 0, 10, "a request is in flight")

    def test_in_flight(self, engine: Program, chosen: Engine) -> None:
        """While it works."""
        with engine.streaming(chosen.long):
            until(lambda: engine.requests() == 1, 10, "the stream is in flight")  # vLLM counts once a step

    def test_parallel(self, engine: Program, chosen: Engine) -> None:
        """A short stream ends while a long one that began before it continues."""
        until(lambda: engine.requests() == 0, 10, "nothing is in flight")
        with contextlib.closing(engine.stream(chosen.long)) as long:
            next(iter(long.events()))
            assert list(engine.stream(4).events())
            until(lambda: engine.requests() == 1, 10, "the long stream is in flight")

    def test_abort(self, engine: Program, chosen: Engine) -> None:
        """Nothing is computed for a client that has gone."""
        stream = engine.stream(chosen.long)
        next(iter(stream.events()))
        stream.close()
        until(lambda: engine.requests() == 0, 10, "the request continues")

    def test_after_abort(self, engine: Program, chosen: Engine) -> None:
        """The slot is free."""
        stream = engine.stream(chosen.long)
        next(iter(stream.events()))
        stream.close()
        body = {"model": "m", "messages": HELLO, "max_tokens": 1}
        assert engine.ask("/v1/chat/completions", body)[0] == 200

    def test_terminate_stream(self, fresh: Program, chosen: Engine) -> None:
        """What the client sees is true: the answer was not whole."""
        stream = fresh.stream(chosen.long)
        events = stream.events()
        next(events)
        began = time.monotonic()
        fresh.kill(signal.SIGTERM)
        rest = list(events)
        fresh.code(GRACE_SECONDS)
        assert seconds(began) < GRACE_SECONDS
        assert "[DONE]" not in rest or any('"length"' in event or '"error"' in event for event in rest)

    def test_killed_stream(self, fresh: Program, chosen: Engine) -> None:
        """As by the kernel, for want of memory."""
        stream = fresh.stream(chosen.long)
        events = stream.events()
        next(events)
        fresh.kill()
        assert "[DONE]" not in list(events)

    def test_release(self, fresh: Program) -> None:
        """No helper process keeps a GPU."""
        fresh.kill(signal.SIGTERM)
        fresh.code()
        until(lambda: not fresh.left(), 5, "processes are left")


PROVEN = {
    "llamacpp": (
        f"xllamacpp {importlib.metadata.version('xllamacpp')}",
        f"llama-server of {llama_server.VERSION}",
    ),
    "diffusers": (),
    "vllm": (f"vLLM {vllm.VERSION}", f"torch {vllm.TORCH}"),
    "ollama": (f"Ollama {ollama.VERSION}", f"llama-server of {llama_server.VERSION}"),
}
"""Backend -> what its page names of the programs that ran; diffusers has a file of its own."""


@pytest.mark.parametrize("name", sorted({*backends.names()} - {*PROVEN}))
def test_nothing_is_claimed_of_an_engine_that_is_not_run(name: str) -> None:
    """Its checks are unproven, and the page of backends says so."""
    backend = backends.find(name)
    assert backend is not None
    assert backend.proven == ""
    page = Path(__file__).parents[2] / "docs" / "reference" / "backends.md"
    assert f"`{name}`" in page.read_text().partition("## What is proven")[2].partition("none has run")[0]


def test_every_check_is_one_of_the_suite_and_has_its_meaning() -> None:
    """At least 25 of them."""
    assert {f"test_{name}" for name in CHECKS} == {
        name for name in dir(TestEngine) if name.startswith("test_")
    }
    assert len(CHECKS) >= 25


@pytest.mark.parametrize("name", backends.names())
def test_what_counts_as_proven_names_the_versions_that_ran(name: str) -> None:
    """Of the programs that are installed here, and of those that the cache folder gets."""
    backend = backends.find(name)
    assert backend is not None
    assert bool(backend.proven) is (name in PROVEN)
    assert all(words in backend.proven for words in PROVEN.get(name, ()))
