"""Two Models of one card swap, and the prompt that the first had computed is known to it when it is back: real llama.cpp on a simulated card."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.instance import Instance
from flexinfer.local.supervisor.provisioning import small_model
from tests.integration.prefetcher.hub import served
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ONE_CARD = Path(__file__).resolve().parents[2] / "examples" / "simulated" / "one-card.yaml"
PROMPT = "The quick brown fox jumps over the lazy dog and writes a long sentence. " * 12


@pytest.fixture
def instance(
    tmp_path_factory: pytest.TempPathFactory, api: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Instance]:
    """Return an instance with one card, whose downloads come from a hub with the small model."""
    path = small_model()
    if api != "local" or path is None:
        pytest.skip("a simulated card needs the local API, and the small model")
    with served() as hub:
        hub.files = {"smollm2.gguf": path.read_bytes()}
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        folder = tmp_path_factory.mktemp("instance")
        running = Instance(folder, "--simulate-gpus", str(ONE_CARD), stub=False)
        try:
            yield running
        finally:
            running.down()


def a_group() -> dict[str, Any]:
    """Return the group of the card: a holder leaves for another after a second."""
    spec = {"group": "card", "minStay": "1s"}
    return {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "SharedGroup",
        "metadata": {"name": "card"},
        "spec": spec,
    }


def a_member(name: str) -> dict[str, Any]:
    """Return a Model that needs more than half of the card and keeps its prompts."""
    spec = {
        "backend": "llamacpp",
        "source": "HF://org/tiny",
        "gpu": {"vendor": "nvidia", "shared": "card", "vramEstimateMB": 14000},
        "serverless": {"idleTimeout": "10m", "coldStartTimeout": "3m"},
        "config": {"ggufFile": "smollm2.gguf", "contextSize": 1024, "threads": 1, "keepPromptCacheMB": 256},
    }
    return {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model", "metadata": {"name": name}, "spec": spec}


def ask(instance: Instance, name: str) -> int:
    """Send the prompt through the proxy; returns how many of its tokens the engine had in its cache."""
    environment = instance.environment
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {environment['OPENAI_API_KEY']}"}
    url = f"{environment['OPENAI_BASE_URL']}/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=patient(240)) as answer:
        usage = json.loads(answer.read())["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_a_prompt_outlives_a_swap(instance: Instance) -> None:
    """The other Model has the card in between, and a cache of its own: neither is given the other's."""
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(a_group()))
    for name in ("first", "second"):
        instance.kubectl("apply", "-f", "-", stdin=json.dumps(a_member(name)))
    assert ask(instance, "first") < 60  # what the chat template has in common with nothing
    assert ask(instance, "second") < 60
    phase = instance.kubectl("get", "mdl", "first", "-o", "jsonpath={.status.phase}")
    assert phase != "Ready"
    assert ask(instance, "first") > 170
    assert ask(instance, "second") > 170
