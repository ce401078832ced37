"""One card, four Models, as a user sees it: three stay loaded side by side, and exactly the right one leaves for the fourth.

The engines are real llama.cpp, the card is simulated: it gives memory back 3 s after a process has ended.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flexinfer.cli.gpu_usage import usage
from flexinfer.cli.observed import observed_state
from flexinfer.cli.reach import NatsServer
from flexinfer.local.instance import load
from tests.instance import Running, instance, until
from tests.patience import patient

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
ONE_CARD = ROOT / "examples" / "simulated" / "one-card.yaml"
TOTAL_MB = 24_576
SECONDS = 90.0
MEMBERS = {"embedder": 512, "chat": 8_192, "coder": 14_000}
IMAGE_MB = 12_288


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory, api: str) -> Iterator[Running]:
    """Return an instance with the card, whose group lets a holder in use stay a second."""
    if api != "local":
        pytest.skip("simulated GPUs need the local API")
    folder = tmp_path_factory.mktemp("instance")
    file = folder / "one-card.yaml"
    file.write_text(ONE_CARD.read_text().replace("releaseDelay: 1s", "releaseDelay: 3s"))
    group = {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "SharedGroup",
        "metadata": {"name": "card"},
        "spec": {"group": "card", "minStay": "1s"},
    }
    (folder / "group.json").write_text(json.dumps(group))
    patience = {
        "FLEXINFER_DRAIN_SECONDS": f"{patient(30):g}"
    }  # a stream is finished whole, however long that takes here
    with instance(folder / "state", "--simulate-gpus", str(file), variables=patience) as running:
        running.kubectl("apply", "-f", str(folder / "group.json"))
        yield running


def apply(running: Running, tmp_path: Path, name: str, memory_mb: int) -> None:
    """Apply a member of the group."""
    spec = {
        "backend": "llamacpp",
        "source": "pvc://models/smollm2.gguf",
        "gpu": {"vendor": "nvidia", "shared": "card", "vramEstimateMB": memory_mb},
        "serverless": {"idleTimeout": "1h"},
    }
    model = {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model", "metadata": {"name": name}, "spec": spec}
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(model))
    running.kubectl("apply", "-f", str(path))


def the_group(running: Running) -> dict[str, Any]:
    """Return the status of the SharedGroup."""
    status: dict[str, Any] = json.loads(running.kubectl("get", "sgrp", "card", "-o", "json"))["status"]
    return status


def steps(running: Running) -> list[str]:
    """Return the Events of the SharedGroup, in their order, as `step: message`; each is written a moment after its step, and its name sorts by time."""
    fields = "--field-selector=involvedObject.kind=SharedGroup"
    listed = json.loads(running.kubectl("get", "events", fields, "-o", "json"))["items"]
    listed.sort(key=lambda event: str(event["metadata"]["name"]))
    return [f"{event['reason']}: {event['message']}" for event in listed]


def of(running: Running, *names: str, after: int = 0) -> list[str]:
    """Return the steps in which any of these names occurs, without the first so many."""
    return [step for step in steps(running) if any(name in step for name in names)][after:]


def told(running: Running, count: int, *names: str) -> list[str]:
    """Return the steps in which any of these names occurs, as soon as there are so many, without their messages."""
    until(lambda: len(of(running, *names)) >= count, SECONDS, f"{count} steps of {names}")
    return [step.partition(":")[0] for step in of(running, *names)]


def used(running: Running) -> int:
    """Return the memory in use on the card, as `flexinfer gpus` shows it."""
    nodes = usage(asyncio.run(observed_state(NatsServer(url=load(running.state).exports()["NATS_URL"]))))
    return next((one.used_mb for node in nodes for one in node.cards), 0)


def ask(running: Running, name: str, tokens: int, begun: threading.Event | None = None) -> str:
    """Send a request, read its stream to the end, and return why that ended."""
    reasons: list[str | None] = []
    with running.client() as client:
        for chunk in client.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "Count to ten."}],
            max_tokens=tokens,
            stream=True,
        ):
            (begun or threading.Event()).set()
            reasons += [choice.finish_reason for choice in chunk.choices]
    return reasons[-1] or ""


def verified(running: Running) -> set[str]:
    """Return the Models that have made their initial starts."""
    models = json.loads(running.kubectl("get", "mdl", "-o", "json"))["items"]
    wanted = {
        model["metadata"]["name"]: condition["reason"]
        for model in models
        for condition in (model.get("status") or {}).get("conditions") or ()
        if condition["type"] == "Wanted"
    }
    return {name for name, reason in wanted.items() if not reason.startswith("FirstStart")}


def test_new_models_that_do_not_fit_together_are_each_verified(card: Running, tmp_path: Path) -> None:
    """One after another, long before an idleTimeout: a holder that was never requested leaves for the next."""
    four = {**MEMBERS, "image": IMAGE_MB}
    for name, memory_mb in four.items():
        apply(card, tmp_path, name, memory_mb)
    until(lambda: verified(card) == set(four), 2 * SECONDS, "each has made its initial start")
    assert "it has made its initial start, and was never requested" in " ".join(steps(card))


def test_three_models_stay_loaded_and_the_right_one_leaves_for_a_fourth(
    card: Running, tmp_path: Path
) -> None:
    """Its stream is finished whole, and the fourth starts only once the memory is back (reliability G1)."""
    for name, memory_mb in MEMBERS.items():
        apply(card, tmp_path, name, memory_mb)
    for name in MEMBERS:
        ask(card, name, 1)
    status = the_group(card)
    assert (status["heldMB"], status["budgetMB"]) == (sum(MEMBERS.values()), TOTAL_MB - 512)
    until(lambda: used(card) == sum(MEMBERS.values()), SECONDS, "all three use the card")
    assert {holder["model"] for holder in status["holders"]} == set(MEMBERS)
    assert ", ".join(holder["model"] for holder in status["holders"]) in card.kubectl("get", "sgrp", "card")

    until(
        lambda: "granted to coder" in of(card, "coder", "image")[-1], SECONDS, "the coder's turn is an Event"
    )
    before = len(of(card, "coder", "image"))
    with ThreadPoolExecutor() as pool:
        begun = threading.Event()
        streamed = pool.submit(ask, card, "coder", 12, begun)
        assert begun.wait(patient(SECONDS)), "the coder answers"
        apply(card, tmp_path, "image", IMAGE_MB)  # no initial start makes one leave that is in use
        asked = pool.submit(ask, card, "image", 4)
        until(
            lambda: "of coder makes room for image" in " ".join(of(card, "coder", "image", after=before)),
            SECONDS,
            "the coder is released",
        )
        until(asked.done, 2 * SECONDS, "the image model answers")
        assert {streamed.result(), asked.result()} <= {"length", "stop"}
    swap = ["Releasing", "Stopped", "Freed", "Granted"]
    assert told(card, before + len(swap), "coder", "image")[before:] == swap
    assert {holder["model"] for holder in the_group(card)["holders"]} == {"embedder", "chat", "image"}
    until(lambda: used(card) == 512 + 8_192 + IMAGE_MB, SECONDS, "the card shows the three")
    why = card.flexinfer("why", "coder").stdout
    assert "makes room for image" in why
    assert card.kubectl("get", "mdl", "coder", "-o", "jsonpath={.status.phase}") == "Preempted"
