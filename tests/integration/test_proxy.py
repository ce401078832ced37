"""The door on real sockets, before a scripted engine: held, let go, cut, refused."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from flexinfer.api.model import BackendStatus, Model, Serverless
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.proxy import __main__ as proxy
from flexinfer.proxy import http as door
from flexinfer.runtime.runtime import Disconnected, Runtime, Snapshot
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import Observation
from tests.builders import a_model
from tests.runtimes import ListBus, a_runtime

pytestmark = pytest.mark.integration
CHAT = {"model": "llama", "messages": [{"role": "user", "content": "hello"}]}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def hello(request: web.Request) -> web.StreamResponse:
    """Answer at once, with what was asked."""
    return web.json_response({"asked": await request.json(), "key": request.headers.get("Authorization")})


@contextlib.asynccontextmanager
async def an_engine(handler: Handler) -> AsyncIterator[str]:
    """Run a scripted engine; yields its host:port."""
    app = web.Application()
    app.router.add_post("/v1/{rest:.+}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class TheDoor:
    """A running proxy and the bus that it hears."""

    def __init__(self, base: str, bus: ListBus, runtime: Runtime, session: aiohttp.ClientSession) -> None:
        self.base, self.bus, self.runtime, self.session = base, bus, runtime, session

    def see(self, *models: Model) -> None:
        """Let it observe Models."""
        for model in models:
            self.tell(events.ModelObserved(model=model))

    def tell(self, event: AnyEvent) -> None:
        """Let it observe a fact."""
        self.bus.queue.put_nowait(Observation(event, self.runtime.clock()))

    def post(self, body: Any = CHAT, path: str = "/v1/chat/completions") -> Any:
        """Ask."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.post(
            f"{self.base}{path}", data=io.BytesIO(data), headers={"Authorization": "Bearer secret"}
        )

    async def told(self, kind: type[AnyEvent], count: int = 1) -> list[Any]:
        """Return facts that it told, as soon as there are so many."""
        async with asyncio.timeout(10):
            while True:
                found = [e for e in self.bus.told if isinstance(e, kind)]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.01)


@pytest.fixture
async def the_door(tmp_path: Any) -> AsyncIterator[TheDoor]:
    """Run the proxy as its process does, with a hand-made runtime."""
    (tmp_path / "key").write_text("secret\n")
    settings = Settings(
        proxy_port_file=str(tmp_path / "port"), api_key_file=str(tmp_path / "key"), drain_seconds=0.2
    )
    bus = ListBus()
    runtime = a_runtime("proxy", bus=bus, settings=settings)
    bus.queue.put_nowait(Snapshot([]))
    task = asyncio.create_task(proxy.main(runtime))
    async with asyncio.timeout(10):
        while not (tmp_path / "port").exists():
            await asyncio.sleep(0.01)
    async with aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}"
        yield TheDoor(base, bus, runtime, session)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def asleep(name: str = "llama", **changes: Any) -> Model:
    """Return a sleeping Model."""
    row = ("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE), "Granted")
    return a_model(name, conditions=(*row, ("Ready", "False", Reason.STOPPED)), **changes)


def awake(address: str, version: int = 2, **changes: Any) -> Model:
    """Return the same Model, ready."""
    row = ("Accepted", "Placed", "Cached", "Wanted", "Granted", "Ready")
    return a_model(
        "llama", conditions=row, backend_status=BackendStatus(address=address), version=version, **changes
    )


async def test_a_ready_model_is_asked_at_once_under_its_own_name(the_door: TheDoor) -> None:
    """And the caller's key stays at the door."""
    async with an_engine(hello) as address:
        the_door.see(awake(address))
        async with the_door.post({**CHAT, "model": "default/llama"}) as answer:
            found = await answer.json()
    assert answer.status == 200
    assert found["asked"]["model"] == "llama"
    assert found["key"] is None


async def test_a_request_for_a_sleeping_model_is_held_and_wakes_it(the_door: TheDoor) -> None:
    """It is let go as soon as the Model is ready; the wake is said again while it waits."""
    the_door.see(asleep())
    async with an_engine(hello) as address:
        asked = asyncio.create_task(the_door.post().__aenter__())
        [wake, *_] = await the_door.told(events.WakeRequested, 2)
        assert (wake.name, wake.uid) == ("llama", "uid-llama")
        [busy, *_] = await the_door.told(events.ActivityObserved)
        assert (busy.in_flight, busy.waiting) == (0, 1)
        the_door.see(awake(address))
        answer = await asked
        assert answer.status == 200
        answer.release()


async def test_a_hint_that_an_engine_is_ready_leads_to_one_read(tmp_path: Any, the_door: TheDoor) -> None:
    """Only for a Model and uid that are known; a stranger's hint is passed over."""
    the_door.see(asleep())
    the_door.tell(events.EngineReady(namespace="default", name="llama", uid="another"))
    the_door.tell(events.EngineReady(namespace="default", name="nobody", uid="u"))
    async with the_door.session.get(
        f"{the_door.base}/v1/models", headers={"Authorization": "Bearer secret"}
    ) as answer:
        [listed] = (await answer.json())["data"]
    assert listed["id"] == "llama"
    assert listed["flexinfer"]["phase"] == "Idle"


async def test_a_wait_that_is_too_long_ends_in_a_503_that_says_for_what(the_door: TheDoor) -> None:
    """With Retry-After, and with the condition that is not true."""
    model = asleep()
    spec = msgspec.structs.replace(model.spec, serverless=Serverless(cold_start_timeout="300ms"))
    the_door.see(msgspec.structs.replace(model, spec=spec))
    async with the_door.post() as answer:
        body = await answer.json()
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) <= 120
    assert answer.headers["x-should-retry"] == "true"
    assert body["error"]["code"] == "cold_start_timeout"
    assert "Wanted" in body["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{not json", 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (b'{"messages": []}', 400, "missing_required_parameter"),
        (b'{"model": "nobody"}', 404, "model_not_found"),
        (b'{"model": "llama", "x": "' + b"x" * (door.BODY_LIMIT + 1) + b'"}', 413, "body_too_large"),
    ],
    ids=["no json", "no object", "no model", "unknown model", "too large"],
)
async def test_bad_input_is_refused_before_anything_wakes(
    the_door: TheDoor, body: bytes, status: int, code: str
) -> None:
    """In OpenAI's error shape, and the unknown model is named."""
    the_door.see(asleep())
    async with the_door.post(body) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert answer.headers["x-should-retry"] == "false"
    if code == "model_not_found":
        assert "nobody" in error["message"]
    assert not [e for e in the_door.bus.told if isinstance(e, events.WakeRequested)]


async def test_a_key_that_is_missing_or_wrong_is_refused(the_door: TheDoor) -> None:
    """401, in OpenAI's error shape."""
    async with the_door.session.get(f"{the_door.base}/v1/models") as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "invalid_api_key"


async def test_a_model_that_can_never_run_is_said_to_at_once(the_door: TheDoor) -> None:
    """With its condition, and no retry."""
    the_door.see(a_model(conditions=[("Accepted", "False", Reason.INVALID_CONFIG)]))
    async with the_door.post() as answer:
        body = await answer.json()
    assert answer.status == 503
    assert Reason.INVALID_CONFIG in body["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_a_model_that_is_deleted_while_somebody_waits_is_a_404(the_door: TheDoor) -> None:
    """Nobody waits for what will never come."""
    the_door.see(asleep())
    asked = asyncio.create_task(the_door.post().__aenter__())
    await the_door.told(events.WakeRequested)
    the_door.tell(events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=9))
    answer = await asked
    assert answer.status == 404
    answer.release()


async def test_while_the_bus_is_away_a_cold_start_is_refused_and_a_ready_model_answers(
    the_door: TheDoor,
) -> None:
    """Running models do not need us."""
    async with an_engine(hello) as address:
        the_door.see(awake(address), asleep("other"))
        async with the_door.post() as answer:
            assert answer.status == 200
        the_door.bus.queue.put_nowait(Disconnected())
        async with the_door.post({**CHAT, "model": "other"}) as answer:
            assert answer.status == 503
            assert "Retry-After" in answer.headers
        async with the_door.post() as answer:
            assert answer.status == 200


EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


async def test_a_stream_is_passed_on_event_by_event(the_door: TheDoor) -> None:
    """Nothing is held back: the next event is sent only after the former was read."""
    read = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(3):
            await response.write(EVENT)
            await read.wait()
            read.clear()
        await response.write(b"data: [DONE]\n\n")
        return response

    async with an_engine(stream) as address:
        the_door.see(awake(address))
        async with the_door.post({**CHAT, "stream": True}) as answer:
            for _ in range(3):
                assert await answer.content.readuntil(b"\n\n") == EVENT
                read.set()
            assert await answer.content.read() == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "sent", [EVENT, EVENT + EVENT[:9]], ids=["at a boundary", "in the middle of an event"]
)
async def test_a_stream_whose_engine_died_never_ends_clean(the_door: TheDoor, sent: bytes) -> None:
    """An error event, no [DONE], and an aborted connection."""

    async def dies(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sent)
        assert request.transport is not None
        request.transport.abort()
        return response

    text = b""
    async with an_engine(dies) as address:
        the_door.see(awake(address))
        async with the_door.post({**CHAT, "stream": True}) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                async for chunk in answer.content.iter_any():
                    text += chunk
    last = text.strip().split(b"\n\n")[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_disconnected"
    assert b"[DONE]" not in text


async def test_an_engine_that_dies_before_it_answers_is_a_502(the_door: TheDoor) -> None:
    """Said once; a request that may have been taken is not sent again."""
    asked = 0

    async def dies(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with an_engine(dies) as address:
        the_door.see(awake(address))
        async with the_door.post() as answer:
            assert answer.status == 502
    assert asked == 1


async def test_an_engine_that_refuses_is_asked_where_it_went(the_door: TheDoor) -> None:
    """A connection that was refused took nothing."""
    async with an_engine(hello) as gone:
        pass
    async with an_engine(hello) as address:
        the_door.see(awake(gone))
        asked = asyncio.create_task(the_door.post().__aenter__())
        await the_door.told(events.ActivityObserved)
        the_door.see(awake(address, version=3))
        answer = await asked
        assert answer.status == 200
        answer.release()


async def test_a_client_that_leaves_is_seen_by_the_engine(the_door: TheDoor) -> None:
    """The engine's work ends with the client's interest."""
    left = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            left.set()
            raise
        return web.Response()

    async with an_engine(slow) as address:
        the_door.see(awake(address))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await the_door.post().__aenter__()
        async with asyncio.timeout(5):
            await left.wait()
    [*_, last] = await the_door.told(events.ActivityObserved, 2)
    assert (last.in_flight, last.waiting) == (0, 0)


async def test_a_model_has_a_path_and_a_list_of_its_own(the_door: TheDoor) -> None:
    """`/model/<namespace>/<name>/v1/...` needs no model in the body."""
    async with an_engine(hello) as address:
        the_door.see(awake(address), asleep("other"))
        async with the_door.post({"messages": []}, "/model/default/llama/v1/chat/completions") as answer:
            assert (await answer.json())["asked"]["model"] == "llama"
        key = {"Authorization": "Bearer secret"}
        async with the_door.session.get(
            f"{the_door.base}/model/default/llama/v1/models", headers=key
        ) as answer:
            assert [m["id"] for m in (await answer.json())["data"]] == ["llama"]
        async with the_door.session.get(f"{the_door.base}/v1/models/other", headers=key) as answer:
            assert (await answer.json())["id"] == "other"
