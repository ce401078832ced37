"""The prompt cache outlives the engine: a real llama.cpp server is killed and started again, and knows the prompt that was saved."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.api.model import CacheStatus, Model
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import prompt_cache
from flexinfer.local.supervisor.provisioning import small_model
from tests.builders import a_model
from tests.instance import until
from tests.patience import patient

pytestmark = pytest.mark.slow
HOST = "127.193.7.1"
"""Outside of the range of Pods: an instance of another test may have any address of that."""
PROMPT = "The quick brown fox jumps over the lazy dog and writes a long sentence. " * 12


class Engine:
    """A llama.cpp server at the address of a Pod."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, context: int = 1024) -> None:
        """Start it and wait until it answers."""
        server = Path(sys.executable).with_name("flexinfer-llama-server")
        words = (
            f"--host {HOST} --port 8080 --alias m --parallel 2 --kv-unified --threads 1 --ctx-size {context}"
        )
        words += f" --slot-save-path {self.folder} --model {small_model()}"
        self._process = subprocess.Popen(
            [str(server), *words.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, 60, "the engine does not answer")

    def kill(self) -> None:
        """End it without a word, as a Pod whose grace period is over."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:8080/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self) -> int:
        """Send the prompt; returns how many of its tokens the engine had in its cache."""
        body = json.dumps({"model": "m", "prompt": PROMPT, "max_tokens": 1, "temperature": 0}).encode()
        with urllib.request.urlopen(
            f"http://{HOST}:8080/v1/completions", body, timeout=patient(120)
        ) as answer:
            usage: dict[str, Any] = json.loads(answer.read())["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine that runs."""
    if small_model() is None:
        pytest.skip("no small model is installed")
    running = Engine(tmp_path)
    running.start()
    try:
        yield running
    finally:
        running.kill()


def keeping(revision: str = "r1", room: int = 256) -> Model:
    """Return a Model that keeps prompt caches."""
    config = {"ggufFile": "q4.gguf", "keepPromptCacheMB": room}
    return a_model("m", source="HF://org/m", config=config, cache_status=CacheStatus(revision=revision))


def of(template: str = "t") -> PodFacts:
    """Return the engine's Pod."""
    return PodFacts(name="m-0", uid="p", ip=HOST, template=template)


async def test_a_prompt_that_was_saved_is_known_to_the_next_engine(engine: Engine) -> None:
    """Its file is there, and the engine has not to compute it again."""
    assert engine.ask() == 0
    assert await prompt_cache.save(keeping(), of()) == "1 prompt cache of 181 tokens saved"
    engine.kill()
    engine.start()
    await prompt_cache.restore(keeping(), of())
    assert engine.ask() > 170


@pytest.mark.parametrize(
    ("model", "pod"),
    [
        pytest.param(keeping("r2"), of(), id="other weights"),
        pytest.param(keeping(), of("another"), id="another template: context size, image, arguments"),
        pytest.param(keeping(room=0), of(), id="switched off"),
    ],
)
async def test_a_cache_of_something_else_is_void(engine: Engine, model: Model, pod: PodFacts) -> None:
    """It is not restored, and nothing fails."""
    engine.ask()
    assert await prompt_cache.save(keeping(), of()) != ""
    engine.kill()
    engine.start()
    await prompt_cache.restore(model, pod)
    assert engine.ask() == 0


async def test_nothing_is_saved_without_room_or_without_a_prompt(engine: Engine) -> None:
    """A Model that keeps none, and an engine that was asked nothing."""
    assert await prompt_cache.save(keeping(), of()) == ""
    engine.ask()
    assert await prompt_cache.save(keeping(room=0), of()) == ""
    assert list(engine.folder.iterdir()) == []


async def test_an_engine_that_is_gone_costs_the_cache_alone() -> None:
    """No error, no wait."""
    assert await prompt_cache.save(keeping(), of()) == ""
    await prompt_cache.restore(keeping(), of())
