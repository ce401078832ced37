"""The server of images over HTTP, with a pipeline that does what a test tells it: what clients, the proxy and the launcher see."""

import asyncio
import base64
import contextlib
import io
import json
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from flexinfer.image_server.generation import Defaults, Generation
from flexinfer.image_server.pipeline import BrokenError, InvalidError, MemoryFullError, Pipeline, Stage, Step
from flexinfer.image_server.serve import serve
from flexinfer.image_server.settings import FINISH_SECONDS, Settings
from flexinfer.image_server.worker import MOST_WAITING
from flexinfer.launcher.engine_metrics import in_flight
from tests.patience import patient

if TYPE_CHECKING:
    import openai

HOST, PORT = "127.95.3.1", 8000
ROOT = f"http://{HOST}:{PORT}"
IMAGES = f"{ROOT}/v1/images/generations"
SECONDS = patient(20)
STEPS = 3


def official_client() -> "openai.AsyncOpenAI":
    """Return OpenAI's own client of the server."""
    import openai  # noqa: PLC0415 -- takes longer to load than most test files to run

    return openai.AsyncOpenAI(base_url=f"{ROOT}/v1", api_key="k", max_retries=0)


class Script:
    """A pipeline whose images are the JSON of what was asked for; it waits where a test holds it, and fails as a test says."""

    def __init__(self) -> None:
        self.asked: list[Generation] = []
        self.loads, self.draws = threading.Event(), threading.Event()
        self.loads.set()
        self.draws.set()
        self.begun = threading.Event()
        self.interrupted = threading.Event()
        self.fails: Exception | None = None
        self.fails_to_load: Exception | None = None

    def load(self, stage: Stage) -> Pipeline:
        """Load, once it may."""
        stage("reading the weights")
        assert self.loads.wait(SECONDS)
        if self.fails_to_load is not None:
            raise self.fails_to_load
        return self

    def draw(self, generation: Generation, step: Step) -> bytes:
        """Draw in three steps, the second of which waits until it may."""
        self.asked.append(generation)
        try:
            step(1, STEPS)
            self.begun.set()
            while not self.draws.wait(0.01):
                step(1, STEPS)
            step(2, STEPS)
            self._fail()
            step(3, STEPS)
        except Exception:
            self.interrupted.set()
            raise
        return json.dumps([generation.prompt, generation.seed]).encode()

    def _fail(self) -> None:
        if self.fails is not None:
            raise self.fails


class Running:
    """The server, in this process, and a client."""

    def __init__(self, script: Script, session: aiohttp.ClientSession, server: "asyncio.Task[int]") -> None:
        self.script, self.session, self.server = script, session, server

    async def get(self, path: str) -> tuple[int, str]:
        """Return code and text of an answer."""
        async with self.session.get(f"{ROOT}{path}") as answer:
            return answer.status, await answer.text()

    async def ask(self, **fields: Any) -> tuple[int, Any]:
        """Return code and body of the answer to a request for images."""
        async with self.session.post(IMAGES, json={"prompt": "a cube"} | fields) as answer:
            return answer.status, await answer.json()

    async def becomes(self, status: str) -> dict[str, Any]:
        """Wait until /health has a status; returns its body."""
        async with asyncio.timeout(SECONDS):
            while True:
                body: dict[str, Any] = json.loads((await self.get("/health"))[1])
                if body["status"] == status:
                    return body
                await asyncio.sleep(0.01)

    async def listens(self) -> None:
        """Wait until it answers anything."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    await self.get("/health")
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)
                else:
                    return

    async def says(self, text: str) -> None:
        """Wait until /health has a text."""
        async with asyncio.timeout(SECONDS):
            while text not in (await self.get("/health"))[1]:
                await asyncio.sleep(0.01)

    async def in_flight(self, number: int) -> None:
        """Wait until the metrics count so many requests, as the launcher reads them."""
        async with asyncio.timeout(SECONDS):
            while in_flight((await self.get("/metrics"))[1], ("diffusers:requests_in_flight",)) != number:
                await asyncio.sleep(0.01)


@pytest.fixture
def script() -> Script:
    """Return what the pipeline does."""
    return Script()


@contextlib.asynccontextmanager
async def started(script: Script, finish: float = FINISH_SECONDS) -> AsyncIterator[Running]:
    """Run a server that listens, whether it has loaded or not."""
    settings = Settings(
        path=Path("/models/m"),
        model="m",
        host=HOST,
        port=PORT,
        device="cpu",
        defaults=Defaults(steps=7),
        finish_seconds=finish,
    )
    task = asyncio.create_task(serve(settings, script.load))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        running = Running(script, session, task)
        await running.listens()
        try:
            yield running
        finally:
            script.loads.set()
            script.draws.set()
            if not task.done():
                signal.raise_signal(signal.SIGTERM)
            await task


@pytest.fixture
async def server(script: Script) -> AsyncIterator[Running]:
    """Return a server that is ready."""
    async with started(script) as running:
        await running.becomes("ready")
        yield running


class TestLoading:
    """From the start to the first image."""

    async def test_what_loads_says_so_with_its_stage(self, script: Script) -> None:
        """Each stage is another answer, which the launcher takes for progress."""
        script.loads.clear()
        async with started(script) as running:
            code, text = await running.get("/health")
            assert (code, json.loads(text)["status"]) == (503, "loading")
            await running.says("reading the weights; at least")
            code, body = await running.ask()
            assert (code, body["error"]["code"]) == (503, "not_ready")
            script.loads.set()
            assert await running.becomes("ready") == {"status": "ready"}
            assert (await running.get("/health"))[0] == 200

    async def test_what_cannot_be_loaded_is_broken_and_ends(self, script: Script) -> None:
        """With its error at /health, and an exit code after which it is started again."""
        script.fails_to_load = OSError("no file named\nunet")
        async with started(script) as running:
            assert await running.becomes("broken") == {
                "status": "broken",
                "error": "OSError: no file named unet",
            }
            assert await running.server == 1

    async def test_a_signal_ends_a_server_that_loads(self, script: Script) -> None:
        """At once: its process does not wait for the thread."""
        script.loads.clear()
        async with started(script) as running:
            signal.raise_signal(signal.SIGTERM)
            assert await running.server == 0


class TestImages:
    """What clients get."""

    async def test_an_image_is_answered_in_openais_form(self, server: Running) -> None:
        """As OpenAI's own client reads it."""
        async with official_client() as client:
            answer = await client.images.generate(model="m", prompt="a cube", size="1024x1024", n=2)
            assert [model.id async for model in client.models.list()] == ["m"]
        assert answer.data is not None
        texts = [base64.b64decode(image.b64_json or "") for image in answer.data]
        assert texts == [b'["a cube", null]'] * 2
        assert (answer.output_format, answer.created > 0) == ("png", True)

    async def test_what_a_request_says_reaches_the_pipeline(self, server: Running) -> None:
        """Each image has its own seed; what is not said is the Model's default."""
        fields: dict[str, Any] = {
            "size": "512x256",
            "negative_prompt": "red",
            "guidance_scale": 2,
            "seed": 5,
            "output_format": "webp",
            "output_compression": 60,
        }
        code, _ = await server.ask(n=2, user="u", quality="auto", response_format="b64_json", **fields)
        first, second = server.script.asked
        assert code == 200
        assert first == Generation(
            prompt="a cube",
            negative_prompt="red",
            width=512,
            height=256,
            steps=7,
            guidance=2.0,
            seed=5,
            format="webp",
            quality=60,
        )
        assert second.seed == 6

    async def test_a_stream_has_each_step_and_the_image_as_an_event(self, server: Running) -> None:
        """Steps are comments: a reader of events skips them."""
        body = {"prompt": "a cube", "stream": True}
        async with server.session.post(IMAGES, json=body) as answer:
            text = await answer.text()
            assert answer.content_type == "text/event-stream"
        steps, _, event = text.partition("event: image_generation.completed\n")
        assert steps.split("\n\n")[:3] == [": step 1 of 3", ": step 2 of 3", ": step 3 of 3"]
        data = json.loads(event.partition("data: ")[2])
        assert base64.b64decode(data["b64_json"]) == b'["a cube", null]'
        async with official_client() as client:
            stream = await client.images.generate(model="m", prompt="a cube", stream=True)
            assert [event.type async for event in stream] == ["image_generation.completed"]

    async def test_health_and_metrics_have_the_step_that_is_drawn(self, server: Running) -> None:
        """And the request, for a drain to wait for."""
        server.script.draws.clear()
        asked = asyncio.create_task(server.ask())
        await server.in_flight(1)
        await server.says('"step": 1, "steps": 3')
        assert "diffusers:step 1\n" in (await server.get("/metrics"))[1]
        server.script.draws.set()
        assert (await asked)[0] == 200
        await server.in_flight(0)
        assert "diffusers:images_total 1\n" in (await server.get("/metrics"))[1]

    @pytest.mark.parametrize(
        ("fields", "code", "param", "sentence"),
        [
            ({"prompt": ""}, 400, "prompt", "length >= 1"),
            ({"prompt": 7}, 400, "prompt", "Expected `str`, got `int`"),
            ({"n": 0}, 400, "n", ">= 1"),
            ({"n": 11}, 400, "n", "<= 10"),
            ({"size": "big"}, 400, "size", "must be WIDTHxHEIGHT in pixels"),
            ({"size": "100x100"}, 400, "size", "multiples of 8"),
            ({"size": "8192x8192"}, 400, "size", "more than 4194304 pixels"),
            ({"response_format": "url"}, 400, "response_format", "'url'"),
            ({"background": "transparent"}, 400, "background", "'transparent'"),
            ({"seed": -1}, 400, "seed", ">= 0"),
            ({"steps": 4}, 400, "steps", "unknown field `steps`"),
            ({"model": "another"}, 404, "model", "the model `another` does not exist; this server has `m`"),
        ],
    )
    async def test_a_bad_request_is_refused_in_openais_form(
        self, server: Running, fields: dict[str, Any], code: int, param: str, sentence: str
    ) -> None:
        """The field and what is wrong with it; nothing is drawn."""
        status, body = await server.ask(**fields)
        assert status == code
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert (body["error"]["param"], body["error"]["type"]) == (param, "invalid_request_error")
        assert sentence in body["error"]["message"]
        assert server.script.asked == []

    async def test_what_is_no_request_for_images_is_refused_in_the_same_form(self, server: Running) -> None:
        """No JSON, another path, another method, too much."""
        answers = [
            server.session.post(IMAGES, data=b"{no"),
            server.session.post(f"{ROOT}/v1/images/edits", data=b"{}"),
            server.session.get(IMAGES),
            server.session.post(IMAGES, data=io.BytesIO(b" " * (1 << 21))),
        ]
        found = []
        for request in answers:
            async with request as answer:
                found.append((answer.status, (await answer.json())["error"]["type"]))
        assert found == [(code, "invalid_request_error") for code in (400, 404, 405, 413)]


class TestFaults:
    """What the pipeline, its clients and the kubelet do."""

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (InvalidError("it takes no negative prompt"), 400, "invalid_value"),
            (MemoryFullError("no room for this image"), 503, "out_of_memory"),
            (RuntimeError("something"), 500, "failed"),
        ],
    )
    async def test_an_image_that_fails_costs_that_request_alone(
        self, server: Running, error: Exception, status: int, code: str
    ) -> None:
        """The next one is drawn."""
        server.script.fails = error
        actual, body = await server.ask()
        assert (actual, body["error"]["code"]) == (status, code)
        assert str(error) in body["error"]["message"]
        server.script.fails = None
        assert (await server.ask())[0] == 200

    async def test_what_the_pipeline_refuses_names_the_field(self, server: Running) -> None:
        """If it is one."""
        server.script.fails = InvalidError("it makes 999 steps", "num_inference_steps")
        assert (await server.ask())[1]["error"]["param"] == "num_inference_steps"

    async def test_a_stream_whose_image_fails_ends_with_the_error(self, server: Running) -> None:
        """Its status was sent long before."""
        server.script.fails = MemoryFullError("no room for this image")
        async with server.session.post(IMAGES, json={"prompt": "a", "stream": True}) as answer:
            text = await answer.text()
        assert "event: error" in text
        assert "no room for this image" in text
        assert "completed" not in text

    async def test_a_broken_pipeline_ends_the_process(self, server: Running) -> None:
        """What a GPU says after a fault in a kernel does not end by waiting."""
        server.script.fails = BrokenError("device-side assert")
        code, body = await server.ask()
        assert (code, body["error"]["code"]) == (500, "broken")
        assert await server.becomes("broken") == {
            "status": "broken",
            "error": "BrokenError: device-side assert",
        }
        assert await server.server == 1

    async def test_a_client_that_leaves_ends_its_image(self, server: Running) -> None:
        """With the next step; the one behind it is drawn."""
        server.script.draws.clear()
        left = asyncio.create_task(server.ask())
        await asyncio.to_thread(server.script.begun.wait, SECONDS)
        left.cancel()
        await asyncio.to_thread(server.script.interrupted.wait, SECONDS)
        await server.in_flight(0)
        server.script.draws.set()
        assert (await server.ask())[0] == 200

    async def test_what_waits_is_bounded(self, server: Running) -> None:
        """One is drawn, so many wait, and the next one is refused at once, with when to try again."""
        server.script.draws.clear()
        asked = [asyncio.create_task(server.ask()) for _ in range(MOST_WAITING + 1)]
        await server.in_flight(MOST_WAITING + 1)
        async with server.session.post(IMAGES, json={"prompt": "a cube"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "10")
        server.script.draws.set()
        assert {code for code, _ in await asyncio.gather(*asked)} == {200}

    async def test_what_was_taken_is_finished_after_a_signal(self, server: Running) -> None:
        """And nothing more is taken: /health says so."""
        server.script.draws.clear()
        asked = asyncio.create_task(server.ask())
        await server.in_flight(1)
        signal.raise_signal(signal.SIGTERM)
        await server.becomes("stopping")
        assert (await server.ask())[0] == 503
        server.script.draws.set()
        assert (await asked)[0] == 200
        assert await server.server == 0

    async def test_an_image_that_takes_longer_than_the_grace_period_is_said_to_be_stopped(
        self, script: Script
    ) -> None:
        """The client sees no image that is none."""
        async with started(script, finish=0.1) as running:
            await running.becomes("ready")
            script.draws.clear()
            asked = asyncio.create_task(running.ask())
            await running.in_flight(1)
            signal.raise_signal(signal.SIGTERM)
            code, body = await asked
            assert (code, body["error"]["code"]) == (503, "stopped")
            assert await running.server == 0
