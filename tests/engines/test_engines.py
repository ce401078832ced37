"""What FlexInfer relies on of each engine, on its real program. A check without the program does not count: it is skipped by name.

The program is that of PATH, or the one that `FLEXINFER_PROGRAM_<BACKEND>` names. `flexinfer.backends.checks` says what each check means,
and the page of backends which of them have run.
"""

import importlib.metadata
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flexinfer import backends
from flexinfer.backends.checks import CHECKS
from flexinfer.local.supervisor.provisioning import small_model
from localkube.kubelet.image_runtimes import NoRuntimeError
from tests.engines.program import GRACE_SECONDS, HELLO, Make, Program, seconds
from tests.instance import until
from tests.patience import patient

pytestmark = pytest.mark.slow
LONG = 900
"""As many tokens as the context has room for: a thousand times as long as a test needs to see that the stream continues."""
WEIGHTS: dict[str, Callable[[], Path | None]] = {"llamacpp": small_model}


@pytest.fixture(scope="module", params=WEIGHTS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Make]]:
    """Return a backend and what makes engines of it; skips where its program or weights are missing."""
    name: str = request.param
    weights = WEIGHTS[name]()
    if weights is None:
        pytest.skip(f"{name}: its weights are not installed; not run")
    folder, programs = tmp_path_factory.mktemp(name), []

    def make(path: Path = weights, host: str = "", extra: tuple[str, ...] = ()) -> Program:
        programs.append(Program(name, path, folder, host=host, extra=extra))
        return programs[-1]

    try:
        make()
    except NoRuntimeError as error:
        pytest.skip(f"{name}: {error}; not run")
    yield name, make
    for program in programs:
        program.end()


@pytest.fixture(scope="module")
def make(made: tuple[str, Make]) -> Make:
    """Return what makes an engine that is not started."""
    return made[1]


def failed(program: Program) -> str:
    """Wait until an engine has ended with an error; returns its last lines."""
    assert program.start().code(patient(60)) != 0
    return program.last_lines()


class TestEngine:
    """One method a check."""

    def test_command_line(self, engine: Program) -> None:
        """It would not be ready otherwise."""
        assert not engine.ended

    def test_unknown_flag(self, make: Make) -> None:
        """As `extraArgs` may have one."""
        assert "--no-such-flag" in failed(make(extra=("--no-such-flag",)))

    def test_missing_weights(self, make: Make, tmp_path: Path) -> None:
        """The path is in the Model's condition then."""
        assert "missing.gguf" in failed(make(tmp_path / "missing.gguf"))

    def test_cut_weights(self, made: tuple[str, Make], tmp_path: Path) -> None:
        """As after a full disk."""
        whole = WEIGHTS[made[0]]()
        assert whole is not None
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        assert "cut.gguf" in failed(made[1](cut))

    def test_wrong_weights(self, make: Make, tmp_path: Path) -> None:
        """An answer of a hub in place of the file, say."""
        page = tmp_path / "page.gguf"
        page.write_text("<html>not found</html>")
        assert failed(make(page))

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

        until(answers, 120, "not ready")
        assert set(codes[:-1]) <= {0, 503}
        program.end()

    def test_health(self, engine: Program) -> None:
        """Again and again."""
        assert [engine.healthy() for _ in range(3)] == [True] * 3

    def test_address(self, engine: Program, make: Make) -> None:
        """Another address of this machine is refused."""
        assert make().ask(engine.backend.health)[0] == 0

    def test_served_name(self, engine: Program) -> None:
        """The one that the proxy writes into each request."""
        _, models = engine.ask("/v1/models")
        assert "m" in [model["id"] for model in models["data"]]

    def test_chat(self, engine: Program) -> None:
        """One answer."""
        code, answer = engine.ask("/v1/chat/completions", {"model": "m", "messages": HELLO, "max_tokens": 4})
        assert (code, answer["usage"]["completion_tokens"]) == (200, 4)
        assert answer["choices"][0]["message"]["content"]

    def test_completions(self, engine: Program) -> None:
        """The older way."""
        code, answer = engine.ask("/v1/completions", {"model": "m", "prompt": "one two", "max_tokens": 4})
        assert (code, bool(answer["choices"][0]["text"])) == (200, True)

    def test_stream(self, engine: Program) -> None:
        """Event by event."""
        events = list(engine.stream(8).events())
        assert len(events) > 4
        assert events[-1] == "[DONE]"

    def test_stream_usage(self, engine: Program) -> None:
        """In the last event before the end."""
        events = list(engine.stream(4, stream_options={"include_usage": True}).events())
        assert json.loads(events[-2])["usage"]["completion_tokens"] == 4

    def test_stop_length(self, engine: Program) -> None:
        """Not as a sentence that has come to its end."""
        _, answer = engine.ask("/v1/chat/completions", {"model": "m", "messages": HELLO, "max_tokens": 2})
        assert answer["choices"][0]["finish_reason"] == "length"

    def test_bad_json(self, engine: Program) -> None:
        """The client's fault."""
        assert 400 <= engine.ask("/v1/chat/completions", raw=b"{no json")[0] < 500

    def test_unknown_path(self, engine: Program) -> None:
        """Which the proxy does not let through anyway."""
        assert engine.ask("/v1/no/such/path", {})[0] == 404

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

    def test_in_flight(self, engine: Program) -> None:
        """While it works."""
        stream = engine.stream(LONG)
        next(iter(stream.events()))
        assert engine.requests() == 1
        stream.close()

    def test_parallel(self, engine: Program) -> None:
        """A short stream ends while a long one that began before it continues."""
        until(lambda: engine.requests() == 0, 10, "nothing is in flight")
        long = engine.stream(LONG)
        next(iter(long.events()))
        assert list(engine.stream(4).events())
        assert engine.requests() == 1
        long.close()

    def test_abort(self, engine: Program) -> None:
        """Nothing is computed for a client that has gone."""
        stream = engine.stream(LONG)
        next(iter(stream.events()))
        stream.close()
        until(lambda: engine.requests() == 0, 10, "the request continues")

    def test_after_abort(self, engine: Program) -> None:
        """The slot is free."""
        stream = engine.stream(LONG)
        next(iter(stream.events()))
        stream.close()
        body = {"model": "m", "messages": HELLO, "max_tokens": 1}
        assert engine.ask("/v1/chat/completions", body)[0] == 200

    def test_terminate(self, fresh: Program) -> None:
        """Sooner than the kubelet's SIGKILL."""
        fresh.kill(signal.SIGTERM)
        assert fresh.code(GRACE_SECONDS) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)

    def test_terminate_stream(self, fresh: Program) -> None:
        """What the client sees is true: the answer was not whole."""
        stream = fresh.stream(LONG)
        events = stream.events()
        next(events)
        began = time.monotonic()
        fresh.kill(signal.SIGTERM)
        rest = list(events)
        fresh.code(GRACE_SECONDS)
        assert seconds(began) < GRACE_SECONDS
        assert "[DONE]" not in rest or any('"length"' in event or '"error"' in event for event in rest)

    def test_killed_stream(self, fresh: Program) -> None:
        """As by the kernel, for want of memory."""
        stream = fresh.stream(LONG)
        events = stream.events()
        next(events)
        fresh.kill()
        assert "[DONE]" not in list(events)

    def test_release(self, fresh: Program) -> None:
        """No helper process keeps a GPU."""
        fresh.kill(signal.SIGTERM)
        fresh.code()
        until(lambda: not fresh.left(), 5, "processes are left")

    def test_restart(self, fresh: Program, make: Make) -> None:
        """As the kubelet does after an end."""
        fresh.kill()
        fresh.code()
        again = make(host=fresh.host).start().ready()
        again.end()


@pytest.mark.parametrize("name", sorted({*backends.names()} - {*WEIGHTS, "diffusers"}))
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
        name for name in vars(TestEngine) if name.startswith("test_")
    }
    assert len(CHECKS) >= 25


def test_what_counts_as_proven_names_the_version_that_ran() -> None:
    """Of the program that runs here where no other is installed."""
    backend = backends.find("llamacpp")
    assert backend is not None
    assert f"xllamacpp {importlib.metadata.version('xllamacpp')}" in backend.proven
    assert [b.name for b in backends.all_backends() if b.proven] == ["diffusers", "llamacpp"]
