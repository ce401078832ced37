"""End to end with a real llama.cpp: apply, request, scale to zero, cold start, delete; and kills.

And every process is killed once.
"""

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from benchmarks.instance import STOPPED, Instance
from tests.audit import logs
from tests.instance import processes_of
from tests.patience import patient

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "local" / "smollm2.yaml"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, api: str) -> Iterator[Instance]:
    """Return an instance with the example Model, ready and never idle."""
    running = Instance(tmp_path_factory.mktemp("instance"), "--separate", *logs.options(api), stub=False)
    try:
        running.kubectl("apply", "-f", str(EXAMPLE))
        running.until("smollm2", "condition=Ready", 120)
        yield running
    finally:
        running.down()
        logs.keep(running.folder / "state")


def client(running: Instance) -> openai.OpenAI:
    """Return an OpenAI client for the proxy."""
    return openai.OpenAI(
        base_url=running.environment["OPENAI_BASE_URL"],
        api_key=running.environment["OPENAI_API_KEY"],
        max_retries=0,
        timeout=patient(90),
    )


def answer(running: Instance) -> str:
    """Send the question and return the answer."""
    done = client(running).chat.completions.create(
        model="smollm2",
        messages=QUESTION,
        temperature=0,
        max_tokens=24,
    )
    return done.choices[0].message.content or ""


def engine(running: Instance) -> tuple[str, int]:
    """Return the uid of the engine's Pod and the pid of its process."""
    pod = json.loads(running.kubectl("get", "pod", "smollm2-0", "-o", "json"))
    container = pod["status"]["containerStatuses"][0]
    return pod["metadata"]["uid"], int(container["containerID"].removeprefix("process://").split(".")[0])


def process(running: Instance, name: str) -> dict[str, Any]:
    """Return the row of a process in `flexinfer services`."""
    return processes_of(running.folder / "state")[name]


def model(running: Instance) -> dict[str, Any]:
    """Return the Model as kubectl shows it."""
    obj: dict[str, Any] = json.loads(running.kubectl("get", "mdl", "smollm2", "-o", "json"))
    return obj


def eventually(what: str, seconds: float, check: Any) -> Any:
    """Return the first true result of `check`, which is polled for several times `seconds`."""
    seconds = patient(seconds)
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            last = check()
        except (subprocess.CalledProcessError, OSError, StopIteration, SystemExit, openai.APIError) as error:
            last = error
        if last and not isinstance(last, BaseException):
            return last
        time.sleep(0.1)  # the polling interval
    raise AssertionError(f"{what}: not within {seconds:g} s; last: {last}")


def test_a_request_gets_a_correct_answer(instance: Instance) -> None:
    """Through the proxy, by the OpenAI API, from a real engine."""
    assert "Paris" in answer(instance)


def test_the_sdk_lists_the_model_and_streams(instance: Instance) -> None:
    """By the OpenAI API, as for any model."""
    assert "smollm2" in [m.id for m in client(instance).models.list()]
    stream = client(instance).chat.completions.create(
        model="smollm2",
        messages=QUESTION,
        temperature=0,
        max_tokens=24,
        stream=True,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "Paris" in text


def test_every_transition_has_an_event(instance: Instance) -> None:
    """`kubectl describe` shows them."""
    description = instance.kubectl("describe", "mdl", "smollm2")
    for reason in ("Accepted", "Placed", "Cached", "FirstStart", "NotShared", "Ready"):
        assert reason in description


def test_a_changed_idle_timeout_restarts_nothing(instance: Instance) -> None:
    """The engine is still the same process."""
    before = engine(instance)
    patch = json.dumps({"spec": {"serverless": {"idleTimeout": "7m"}}})
    instance.kubectl("patch", "mdl", "smollm2", "--type=merge", "-p", patch)
    generation = model(instance)["metadata"]["generation"]

    def settled() -> bool:
        conditions = model(instance)["status"]["conditions"]
        return all(c["observedGeneration"] == generation for c in conditions)

    eventually("every condition is of the new generation", 15, settled)
    assert engine(instance) == before
    assert model(instance)["status"]["phase"] == "Ready"


SERVICES = ("watcher", "agent", "placer", "prefetcher", "launcher", "reaper", "arbiter", "proxy")
SERVERS = {
    "local": ("api",),
    "real": ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize `victim` with every process of the instance."""
    if "victim" in metafunc.fixturenames:
        api = metafunc.config.getoption("--api")
        metafunc.parametrize("victim", [*SERVICES, "node", *SERVERS[api], "nats"])


def test_killing_any_process_does_not_affect_the_model(instance: Instance, victim: str) -> None:
    """The Model keeps its phase and its engine; requests succeed meanwhile, unless the proxy was killed."""
    before, previous = engine(instance), process(instance, victim)
    os.kill(int(previous["pid"]), signal.SIGKILL)
    if victim != "proxy":
        assert "Paris" in answer(instance)

    def back() -> bool:
        now = process(instance, victim)
        return bool(now["pid"] != previous["pid"] and now["health"] == "healthy")

    eventually(f"{victim} is healthy", 15, back)
    eventually("the phase is Ready", 10, lambda: model(instance)["status"]["phase"] == "Ready")
    assert engine(instance) == before
    assert "Paris" in eventually("an answer", 10, lambda: answer(instance))


def test_invalid_input_gets_a_specific_error(instance: Instance) -> None:
    """The Model is not affected."""
    base = instance.environment["OPENAI_BASE_URL"]
    key = {
        "Authorization": f"Bearer {instance.environment['OPENAI_API_KEY']}",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(f"{base}/chat/completions", b"{not json", key)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=patient(10))
    assert refused.value.code == 400
    refused.value.close()
    with pytest.raises(openai.NotFoundError, match="unknown"):
        client(instance).chat.completions.create(model="unknown", messages=QUESTION)
    for field, value in (("backend", "nonsense"), ("source", "pvc://models/../x"), ("source", "ftp://x/y")):
        spec = {"backend": "llamacpp", "source": "pvc://models/x.gguf", field: value}
        body = {
            "apiVersion": "ai.flexinfer/v1alpha2",
            "kind": "Model",
            "metadata": {"name": "bad"},
            "spec": spec,
        }
        with pytest.raises(subprocess.CalledProcessError) as failed:
            instance.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        assert f"spec.{field}" in failed.value.stderr or "spec" in failed.value.stderr
    assert "Paris" in answer(instance)


def test_a_model_whose_pvc_is_missing_names_it_and_can_be_deleted(instance: Instance) -> None:
    """Cached is False/ClaimNotFound."""
    body = {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": "no-pvc"},
        "spec": {"backend": "llamacpp", "source": "pvc://nowhere/x.gguf"},
    }
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    instance.until("no-pvc", "jsonpath={.status.conditions[?(@.type=='Cached')].reason}=ClaimNotFound", 20)
    instance.kubectl("delete", "mdl", "no-pvc", f"--timeout={patient(20):g}s")


def test_a_model_scales_to_zero_starts_for_a_request_and_is_deleted(instance: Instance) -> None:
    """It deletes the Model of this file, so it runs last."""
    patch = json.dumps({"spec": {"serverless": {"idleTimeout": "2s"}}})
    instance.kubectl("patch", "mdl", "smollm2", "--type=merge", "-p", patch)
    instance.until("smollm2", STOPPED, 60)
    assert "No resources found" in instance.kubectl(
        "get", "pods", "--ignore-not-found"
    ) or not instance.kubectl("get", "pods", "-o", "name")
    assert "Paris" in answer(instance)
    instance.kubectl("delete", "mdl", "smollm2", f"--timeout={patient(60):g}s")
    with pytest.raises(openai.NotFoundError):
        answer(instance)


async def test_the_tap_user_receives_the_watermark(instance: Instance) -> None:
    """With a plain NATS client and the URL of `flexinfer env`."""
    import nats  # noqa: PLC0415 -- a plain client, as a user would use it

    subjects: asyncio.Queue[str] = asyncio.Queue()

    async def take(message: Any) -> None:
        subjects.put_nowait(message.subject)

    link = await nats.connect(instance.environment["NATS_URL"])
    await link.subscribe("flexinfer.>", cb=take)
    async with asyncio.timeout(patient(20)):
        while not (await subjects.get()).startswith("flexinfer.watermark"):
            continue
    await link.close()
