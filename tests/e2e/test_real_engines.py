"""Models on the real llama-server, Ollama and vLLM as a user sees them, each from `kubectl apply` to a stream that a stop ends.

`make test-long` builds and installs the programs and runs these tests. vLLM runs on the CPU of a node that says it has a GPU.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from benchmarks.instance import STOPPED
from flexinfer import backends
from flexinfer.api.labels import MODEL_LABEL
from flexinfer.backends.failures import REMEDIES, Kind
from flexinfer.local.supervisor.provisioning import small_model
from tests.engines.installed import folders, llama_server, ollama, vllm
from tests.engines.installed.required import required
from tests.engines.test_engines import another_gguf
from tests.engines.test_ollama import TEMPLATE
from tests.instance import Running, instance, until
from tests.integration.prefetcher.registry import Registry, served
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CARD = "nodes:\n- {name: local, gpus: [{profile: rtx-3090}]}\n"
LIFE = {"idleTimeout": "3s", "coldStartTimeout": "10m"}
COUNT: list[Any] = [{"role": "user", "content": "Count from one to one thousand in words."}]


class Served(NamedTuple):
    """A Model and the program that serves it."""

    program: Callable[[], Path | None]
    spec: dict[str, Any]
    long: int


MODELS = {
    "llama-server": Served(
        llama_server.program,
        {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf", "config": {"contextSize": 4096}},
        long=3900,
    ),
    "ollama": Served(
        ollama.program,
        {"backend": "ollama", "source": "ollama://tiny:1b", "config": {"contextSize": 4096}},
        long=3900,
    ),
    "vllm": Served(
        vllm.program,
        {
            "backend": "vllm",
            "source": "pvc://models/tiny",
            "gpu": {"vendor": "nvidia", "vramEstimateMB": 4000},
            "config": {"maxModelLen": 4096, "maxNumSeqs": 4, "enforceEager": True},
            "env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}],
        },
        long=3900,
    ),
}
VLLM = backends.find("vllm")
assert VLLM is not None
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "llama-server": (
        {"source": "pvc://models/other.gguf"},
        r"unknown model architecture: 'llamx'",
        REMEDIES[Kind.ARCHITECTURE],
    ),
    "vllm": (
        {"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "20000"}]},
        r"Available memory on node 0 .* less than requested memory for kv \(20000\.0 GiB\)",
        VLLM.less_memory,
    ),
}
"""Name -> what of the spec is changed, the cause, and what helps."""


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest, api: str) -> str:
    """Return which engine it is; skips where its program or its weights are missing."""
    if api != "local":
        pytest.skip("once is enough")
    model = MODELS[request.param]
    required(request.param, model.program)
    if small_model() is None:
        pytest.skip("no small model is installed")
    return str(request.param)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """Return a registry on loopback that has the small model for Ollama."""
    path = small_model()
    assert path is not None
    with served() as one:
        one.add("library/tiny", "1b", {"model": path.read_bytes(), "template": TEMPLATE})
        yield one


@pytest.fixture(scope="module")
def running(name: str, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return an instance with one simulated GPU on which the Model is Ready."""
    model, folder = MODELS[name], tmp_path_factory.mktemp(name)
    programs, state = folder / "programs", folder / "state"
    programs.mkdir()
    folders.script(programs / _command(model), f'exec {model.program()} "$@"')
    (folder / "card.yaml").write_text(CARD)
    variables = {"FLEXINFER_OLLAMA_REGISTRY": registry.address}
    options = ("--simulate-gpus", str(folder / "card.yaml"))
    with instance(state, *options, programs=programs, variables=variables) as one:
        if name == "vllm":
            shutil.copytree(vllm.tiny_model(folder), state / "volumes" / "default" / "models" / "tiny")
        one.kubectl("apply", "-f", str(_written(folder, name, model)))
        wait(one, name, "condition=Ready")
        yield one


def _command(model: Served) -> str:
    backend: str = model.spec["backend"]
    return "llama-server" if backend == "llamacpp" else backend


def _written(folder: Path, name: str, model: Served) -> Path:
    spec = {**model.spec, "serverless": LIFE, "resources": {"limits": {"cpu": "1"}}}
    path = folder / "model.json"
    described = {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model", "metadata": {"name": name}}
    path.write_text(json.dumps({**described, "spec": spec}))
    return path


def wait(running: Running, name: str, what: str) -> None:
    """Wait for a Model; vLLM's start takes longer than one command may."""
    until(
        lambda: (
            "met" in running.kubectl("wait", f"--for={what}", f"mdl/{name}", "--timeout=60s", check=False)
        ),
        600,
        what,
    )


def answer(client: openai.OpenAI, name: str) -> int:
    """Ask for four tokens; returns how many came."""
    done = client.chat.completions.create(model=name, messages=COUNT, max_tokens=4)
    assert done.choices[0].message.content is not None
    return done.usage.completion_tokens if done.usage is not None else 0


def test_it_answers_streams_and_answers_again_after_scale_to_zero(running: Running, name: str) -> None:
    """Through the proxy, with OpenAI's own client."""
    with running.client() as one:
        client = one.with_options(timeout=patient(600))
        assert answer(client, name) == 4
        chunks = list(client.chat.completions.create(model=name, messages=COUNT, max_tokens=16, stream=True))
        assert chunks[-1].choices[0].finish_reason in ("length", "stop")
        wait(running, name, STOPPED)
        assert answer(client, name) == 4


def test_why_it_cannot_start_is_in_the_condition(running: Running, name: str) -> None:
    """Another Model with what the engine alone can refuse; Ollama would start with it, and refuse each request."""
    if name not in REFUSED:
        pytest.skip(f"{name}: its server starts whatever it is to serve; not run")
    changes, cause, helps = REFUSED[name]
    if name == "llama-server":
        claim = running.state / "volumes" / "default" / "models"
        another_gguf(claim / "smollm2.gguf", claim)
    model = MODELS[name]
    other = model._replace(spec=model.spec | changes)
    running.kubectl("apply", "-f", str(_written(running.state, "refused", other)))
    message = ("get", "mdl/refused", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].message}")
    until(lambda: helps in running.kubectl(*message), 600, "the condition says what helps")
    assert re.search(cause, running.kubectl(*message))
    running.kubectl("delete", "mdl/refused")


def test_a_model_that_does_not_exist_is_404(running: Running, name: str) -> None:
    """The proxy's answer, in OpenAI's form, whatever the engine would say."""
    with running.client() as client, pytest.raises(openai.NotFoundError):
        answer(client, "no-such-model")


def test_a_stop_in_mid_stream_is_no_whole_answer(running: Running, name: str) -> None:
    """The Pod is deleted while it streams, without the drain that FlexInfer orders: it ends as an error, or it is as long as was asked."""
    with running.client() as client, ThreadPoolExecutor() as pool:
        answer(client.with_options(timeout=patient(600)), name)
        (pod,) = running.kubectl("get", "pods", "-l", f"{MODEL_LABEL}={name}", "-o", "name").split()
        stream = client.chat.completions.create(
            model=name,
            messages=COUNT,
            max_tokens=MODELS[name].long,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        chunks = iter(stream)
        first = next(chunks)
        deleted = pool.submit(running.kubectl, "delete", pod, "--grace-period=30")
        assert ended_truly([first, *_rest(chunks)])
        deleted.result(patient(120))


def _rest(chunks: Iterator[ChatCompletionChunk]) -> Iterator[ChatCompletionChunk | None]:
    """Yield what follows; None in place of an error."""
    try:
        yield from chunks
    except openai.APIError:
        yield None


def ended_truly(chunks: list[ChatCompletionChunk | None]) -> bool:
    """Return whether a stream that was cut has an error at its end, and one that has none a reason why it is whole."""
    last = chunks[-1]
    if last is None:
        return True
    reasons = [choice.finish_reason for chunk in chunks if chunk is not None for choice in chunk.choices]
    return [reason for reason in reasons if reason] in (["length"], ["stop"])
