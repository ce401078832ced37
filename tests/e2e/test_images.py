"""An image Model as a user sees it: real diffusers with a random pipeline, from `kubectl apply` to an image that is not finished."""

import base64
import contextlib
import io
import json
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import ImageGenCompletedEvent
from PIL import Image

from benchmarks.instance import STOPPED
from flexinfer.launcher.engine_metrics import in_flight
from tests.engines.installed import diffusers_server
from tests.instance import Running, instance, until
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SECONDS = 120.0
MODEL: dict[str, Any] = {
    "apiVersion": "ai.flexinfer/v1alpha2",
    "kind": "Model",
    "metadata": {"name": "painter"},
    "spec": {
        "backend": "diffusers",
        "source": "pvc://models/tiny",
        "serverless": {"idleTimeout": "2s", "coldStartTimeout": "3m"},
        "config": {"numInferenceSteps": 3},
        "resources": {"limits": {"cpu": "1"}},
        "env": [{"name": "FINISH_SECONDS", "value": "1"}],
    },
}

ENDLESS = {"num_inference_steps": 900}
"""With ten images of 128x128: no processor is so fast that they are finished before the drain deadline and the server's own have passed."""

SETTINGS = {"FLEXINFER_DRAIN_SECONDS": "3"}
"""Such an image is drawn for as long as it is waited for."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, api: str) -> Iterator[Running]:
    """Return an instance with the pipeline in its volume; skips where diffusers is not to run."""
    if api != "local":
        pytest.skip("once is enough")
    programs = diffusers_server.program(tmp_path_factory.mktemp("programs"))
    pipeline = diffusers_server.tiny_pipeline()
    state = tmp_path_factory.mktemp("instance") / "state"
    with instance(state, programs=programs, variables=SETTINGS) as one:
        shutil.copytree(pipeline, state / "volumes" / "default" / "models" / "tiny")
        one.kubectl("apply", "-f", str(_written(tmp_path_factory.mktemp("model"))))
        one.kubectl("wait", "--for=condition=Ready", "mdl/painter", f"--timeout={patient(SECONDS):g}s")
        yield one


def _written(folder: Path) -> Path:
    path = folder / "painter.json"
    path.write_text(json.dumps(MODEL))
    return path


def size_of(data: str | None) -> tuple[int, int]:
    """Return width and height of an image."""
    return Image.open(io.BytesIO(base64.b64decode(data or ""))).size


def test_an_image_is_drawn_streamed_and_drawn_again_after_scale_to_zero(running: Running) -> None:
    """Through the proxy, with OpenAI's own client."""
    with running.client() as client:
        images = client.images.generate(model="painter", prompt="a cube", size="64x64").data or []
        assert [size_of(image.b64_json) for image in images] == [(64, 64)]
        events = list(client.images.generate(model="painter", prompt="a cube", stream=True))
        assert [type(event) for event in events] == [ImageGenCompletedEvent]
        running.kubectl("wait", f"--for={STOPPED}", "mdl/painter", f"--timeout={patient(SECONDS):g}s")
        woken = client.images.generate(model="painter", prompt="a cube").data or []
        assert [size_of(image.b64_json) for image in woken] == [(32, 32)]


def test_a_bad_request_reaches_the_client_in_openais_form(running: Running) -> None:
    """What the server says, with its field."""
    with running.client() as client, pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(model="painter", prompt="a cube", size="63x63")
    assert refused.value.param == "size"


def test_a_stop_in_mid_image_is_no_image(running: Running) -> None:
    """The Model is deleted while it draws: the drain waits, then the server says that it was stopped."""
    with running.client() as client, ThreadPoolExecutor() as pool:

        def draw() -> list[Any]:
            stream = client.images.generate(
                model="painter", prompt="a", size="128x128", n=10, stream=True, extra_body=ENDLESS
            )
            return list(stream)

        asked = pool.submit(draw)
        until(lambda: _in_flight(running) == 1, SECONDS, "an image is drawn")
        running.kubectl("delete", "mdl", "painter", "--wait=false")
        with pytest.raises(openai.APIError, match="stopped before the image was finished"):
            asked.result(patient(SECONDS))


def _in_flight(running: Running) -> int | None:
    """Return how many requests the engine counts; None while there is none that answers: it may have been idle for too long."""
    address = running.kubectl("get", "mdl", "painter", "-o", "jsonpath={.status.backend.address}")
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer,
    ):
        return in_flight(answer.read().decode(), ("diffusers:requests_in_flight",))
    return None
