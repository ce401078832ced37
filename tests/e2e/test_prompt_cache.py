"""A Model that keeps its prompt cache: scaled to zero, started again, it answers the same prompt without computing it again."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.instance import STOPPED, Instance
from flexinfer.local.supervisor.provisioning import small_model
from tests.audit import logs
from tests.integration.prefetcher.hub import served
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
PROMPT = "The quick brown fox jumps over the lazy dog and writes a long sentence. " * 12
MODEL: dict[str, Any] = {
    "apiVersion": "ai.flexinfer/v1alpha2",
    "kind": "Model",
    "metadata": {"name": "keeper"},
    "spec": {
        "backend": "llamacpp",
        "source": "HF://org/tiny",
        "serverless": {"idleTimeout": "2s", "coldStartTimeout": "2m"},
        "config": {"ggufFile": "smollm2.gguf", "contextSize": 1024, "threads": 1, "keepPromptCacheMB": 256},
    },
}


@pytest.fixture
def instance(
    tmp_path_factory: pytest.TempPathFactory, api: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Instance]:
    """Return an instance whose downloads come from a hub with the small model."""
    path = small_model()
    assert path is not None
    with served() as hub:
        hub.files = {"smollm2.gguf": path.read_bytes()}
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        running = Instance(tmp_path_factory.mktemp("instance"), *logs.options(api), stub=False)
        try:
            yield running
        finally:
            running.down()
            logs.keep(running.folder / "state")


def ask(instance: Instance) -> int:
    """Send the prompt through the proxy; returns how many of its tokens the engine had in its cache."""
    environment = instance.environment
    body = {"model": "keeper", "max_tokens": 1, "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {environment['OPENAI_API_KEY']}"}
    url = f"{environment['OPENAI_BASE_URL']}/chat/completions"
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=patient(180)
    ) as answer:
        usage = json.loads(answer.read())["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def ready_message(instance: Instance) -> str:
    """Return the message of Ready."""
    path = '{.status.conditions[?(@.type=="Ready")].message}'
    return instance.kubectl("get", "mdl", "keeper", "-o", f"jsonpath={path}")


def test_a_prompt_outlives_the_engine(instance: Instance) -> None:
    """The stop says what was saved; the folder is on the Model's claim, and closed to others."""
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(MODEL))
    instance.until("keeper", "condition=Ready", 180)
    assert ask(instance) < 60  # what the warm-up and the chat template have in common with it
    instance.until("keeper", STOPPED, 120)
    assert "1 prompt cache of " in ready_message(instance)
    assert ask(instance) > 170
    (folder,) = (instance.folder / "state").glob("volumes/default/keeper-cache/.flexinfer/prompts-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.suffix for file in folder.iterdir()] == [".bin"]
