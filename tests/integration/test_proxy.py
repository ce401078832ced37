"""The proxy on real sockets, before a scripted engine: queued, released, cut off, rejected."""

import asyncio
import contextlib
import io
import json
import re
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
from flexinfer.runtime.runtime import Disconnected, Runtime, Snapshot
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import Observation
from tests.builders import a_model
from tests.patience import patient
from tests.runtimes import ListBus, a_runtime

pytestmark = pytest.mark.integration
CHAT = {"model": "llama", "messages": [{"role": "user", "content": "hello"}]}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def hello(request: web.Request) -> web.StreamResponse:
    """Respond at once, with what was received."""
    return web.json_response({"body": await request.json(), "key": request.headers.get("Authorization")})


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


class RunningProxy:
    """A running proxy and the bus that it reads."""

    def __init__(self, base: str, bus: ListBus, runtime: Runtime, session: aiohttp.ClientSession) -> None:
        self.base, self.bus, self.runtime, self.session = base, bus, runtime, session

    def observe(self, *models: Model) -> None:
        """Let it observe Models."""
        for model in models:
            self.deliver(events.ModelObserved(model=model))

    def deliver(self, event: AnyEvent) -> None:
        """Deliver an event to it."""
        self.bus.queue.put_nowait(Observation(event, self.runtime.clock()))

    def post(self, body: Any = CHAT, path: str = "/v1/chat/completions") -> Any:
        """Send a request."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.post(
            f"{self.base}{path}", data=io.BytesIO(data), headers={"Authorization": "Bearer secret"}
        )

    async def published(self, kind: type[AnyEvent], count: int = 1) -> list[Any]:
        """Return events of a kind that it published, as soon as there are so many."""
        async with asyncio.timeout(patient(10)):
            while True:
                published = [e for e in self.bus.published if isinstance(e, kind)]
                if len(published) >= count:
                    return published
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def a_running_proxy(tmp_path: Any, **parts: Any) -> AsyncIterator[RunningProxy]:
    """Run the proxy as its process does, with a runtime made by hand of these parts."""
    (tmp_path / "key").write_text("secret\n")
    settings = Settings(
        proxy_port_file=str(tmp_path / "port"),
        api_key_file=str(tmp_path / "key"),
        drain_seconds=0.2,
        body_limit_mib=1,
    )
    bus = ListBus()
    runtime = a_runtime("proxy", bus=bus, settings=settings, **parts)
    bus.queue.put_nowait(Snapshot([]))
    task = asyncio.create_task(proxy.main(runtime))
    async with asyncio.timeout(patient(10)):
        while not (tmp_path / "port").exists():
            await asyncio.sleep(0.01)
    async with aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}"
        yield RunningProxy(base, bus, runtime, session)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def running_proxy(tmp_path: Any) -> AsyncIterator[RunningProxy]:
    """Run the proxy."""
    async with a_running_proxy(tmp_path) as running:
        yield running


def scaled_to_zero(name: str = "llama", **changes: Any) -> Model:
    """Return a Model that is scaled to zero."""
    conditions = ("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE), "Granted")
    return a_model(name, conditions=(*conditions, ("Ready", "False", Reason.STOPPED)), **changes)


def ready(address: str, version: int = 2, **changes: Any) -> Model:
    """Return the same Model, ready."""
    conditions = ("Accepted", "Placed", "Cached", "Wanted", "Granted", "Ready")
    return a_model(
        "llama",
        conditions=conditions,
        backend_status=BackendStatus(address=address),
        version=version,
        **changes,
    )


async def test_a_ready_model_serves_at_once_under_its_own_name(running_proxy: RunningProxy) -> None:
    """The client's API key is not forwarded."""
    async with an_engine(hello) as address:
        running_proxy.observe(ready(address))
        async with running_proxy.post({**CHAT, "model": "default/llama"}) as answer:
            body = await answer.json()
    assert answer.status == 200
    assert body["body"]["model"] == "llama"
    assert body["key"] is None


async def test_a_request_for_a_model_scaled_to_zero_is_queued_and_publishes_wakes(
    running_proxy: RunningProxy,
) -> None:
    """It is released as soon as the Model is ready; the wake is repeated while it is queued."""
    running_proxy.observe(scaled_to_zero())
    async with an_engine(hello) as address:
        response = asyncio.create_task(running_proxy.post().__aenter__())
        [wake, *_] = await running_proxy.published(events.WakeRequested, 2)
        assert (wake.name, wake.uid) == ("llama", "uid-llama")
        [busy, *_] = await running_proxy.published(events.ActivityObserved)
        assert (busy.in_flight, busy.waiting) == (0, 1)
        running_proxy.observe(ready(address))
        answer = await response
        assert answer.status == 200
        answer.release()


async def test_a_hint_that_an_engine_is_ready_leads_to_one_read(
    tmp_path: Any, running_proxy: RunningProxy
) -> None:
    """Only for a Model and uid that are known; any other hint is ignored."""
    running_proxy.observe(scaled_to_zero())
    running_proxy.deliver(events.EngineReady(namespace="default", name="llama", uid="another"))
    running_proxy.deliver(events.EngineReady(namespace="default", name="unknown", uid="u"))
    async with running_proxy.session.get(
        f"{running_proxy.base}/v1/models", headers={"Authorization": "Bearer secret"}
    ) as answer:
        [listed] = (await answer.json())["data"]
    assert listed["id"] == "llama"
    assert listed["flexinfer"]["phase"] == "Idle"


async def test_a_cold_start_past_its_deadline_is_a_503_with_the_condition_that_is_not_true(
    running_proxy: RunningProxy,
) -> None:
    """And with Retry-After."""
    model = scaled_to_zero()
    spec = msgspec.structs.replace(model.spec, serverless=Serverless(cold_start_timeout="300ms"))
    running_proxy.observe(msgspec.structs.replace(model, spec=spec))
    async with running_proxy.post() as answer:
        body = await answer.json()
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) <= 120
    assert answer.headers["x-should-retry"] == "true"
    assert body["error"]["code"] == "cold_start_timeout"
    message = body["error"]["message"]
    assert re.match(r"model llama was not ready within [\d.]+s \(coldStartTimeout 300ms\): .*Wanted", message)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{not json", 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (b'{"messages": []}', 400, "missing_required_parameter"),
        (b'{"model": "unknown"}', 404, "model_not_found"),
        (b'{"model": "llama", "x": "' + b"x" * (1 << 20) + b'"}', 413, "body_too_large"),
    ],
    ids=["no json", "no object", "no model", "unknown model", "too large"],
)
async def test_an_invalid_request_is_rejected_before_any_model_is_started(
    running_proxy: RunningProxy, body: bytes, status: int, code: str
) -> None:
    """In OpenAI's error shape, and the unknown model is named."""
    running_proxy.observe(scaled_to_zero())
    async with running_proxy.post(body) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert answer.headers["x-should-retry"] == "false"
    if code == "model_not_found":
        assert "unknown" in error["message"]
    assert not [e for e in running_proxy.bus.published if isinstance(e, events.WakeRequested)]


async def test_a_key_that_is_missing_or_wrong_is_rejected(running_proxy: RunningProxy) -> None:
    """401, in OpenAI's error shape."""
    async with running_proxy.session.get(f"{running_proxy.base}/v1/models") as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "invalid_api_key"


async def test_a_permanent_failure_is_answered_at_once(running_proxy: RunningProxy) -> None:
    """With its condition, and not to be retried."""
    running_proxy.observe(a_model(conditions=[("Accepted", "False", Reason.INVALID_CONFIG)]))
    async with running_proxy.post() as answer:
        body = await answer.json()
    assert answer.status == 503
    assert Reason.INVALID_CONFIG in body["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_requests_queued_for_a_model_that_is_deleted_get_a_404(running_proxy: RunningProxy) -> None:
    """At once, not at their deadline."""
    running_proxy.observe(scaled_to_zero())
    response = asyncio.create_task(running_proxy.post().__aenter__())
    await running_proxy.published(events.WakeRequested)
    running_proxy.deliver(events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=9))
    answer = await response
    assert answer.status == 404
    answer.release()


async def test_while_nats_is_unavailable_a_cold_start_is_rejected_and_a_ready_model_serves(
    running_proxy: RunningProxy,
) -> None:
    """Requests to ready Models do not depend on NATS."""
    async with an_engine(hello) as address:
        running_proxy.observe(ready(address), scaled_to_zero("other"))
        async with running_proxy.post() as answer:
            assert answer.status == 200
        running_proxy.bus.queue.put_nowait(Disconnected())
        async with running_proxy.post({**CHAT, "model": "other"}) as answer:
            assert answer.status == 503
            assert "Retry-After" in answer.headers
            error = (await answer.json())["error"]
            assert error["code"] == "nats_unavailable"
            assert error["message"].startswith(
                "model other is scaled to zero and cannot be started: NATS is unavailable"
            )
        async with running_proxy.post() as answer:
            assert answer.status == 200


EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


async def test_a_stream_is_relayed_event_by_event(running_proxy: RunningProxy) -> None:
    """Nothing is buffered: the next event is sent only after the one before was read."""
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
        running_proxy.observe(ready(address))
        async with running_proxy.post({**CHAT, "stream": True}) as answer:
            for _ in range(3):
                assert await answer.content.readuntil(b"\n\n") == EVENT
                read.set()
            assert await answer.content.read() == b"data: [DONE]\n\n"


@pytest.mark.parametrize("regularly", [False, True], ids=["it is cut off", "the engine ends it regularly"])
@pytest.mark.parametrize(
    "sent", [EVENT, EVENT + EVENT[:9]], ids=["at a boundary", "in the middle of an event"]
)
async def test_a_stream_without_its_end_never_ends_regularly(
    running_proxy: RunningProxy, sent: bytes, *, regularly: bool
) -> None:
    """An error event, no [DONE], and a closed connection: the engine died, or the process behind it (Ollama)."""

    async def dies(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sent)
        if not regularly:
            assert request.transport is not None
            request.transport.abort()
        return response

    text = b""
    async with an_engine(dies) as address:
        running_proxy.observe(ready(address))
        async with running_proxy.post({**CHAT, "stream": True}) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                async for chunk in answer.content.iter_any():
                    text += chunk
    last = text.strip().split(b"\n\n")[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_disconnected"
    assert b"[DONE]" not in text


async def test_an_engine_that_dies_before_it_responds_is_a_502(running_proxy: RunningProxy) -> None:
    """A request that may have been taken is not sent again."""
    received = 0

    async def dies(request: web.Request) -> web.StreamResponse:
        nonlocal received
        received += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with an_engine(dies) as address:
        running_proxy.observe(ready(address))
        async with running_proxy.post() as answer:
            assert answer.status == 502
    assert received == 1


async def test_a_request_whose_connection_was_refused_follows_the_engine_to_its_new_address(
    running_proxy: RunningProxy,
) -> None:
    """A connection that was refused took nothing."""
    async with an_engine(hello) as gone:
        pass
    async with an_engine(hello) as address:
        running_proxy.observe(ready(gone))
        response = asyncio.create_task(running_proxy.post().__aenter__())
        await running_proxy.published(events.ActivityObserved)
        running_proxy.observe(ready(address, version=3))
        answer = await response
        assert answer.status == 200
        answer.release()


async def test_a_client_that_disconnects_is_seen_by_the_engine(running_proxy: RunningProxy) -> None:
    """The engine stops working for it."""
    came, left = asyncio.Event(), asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        came.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise
        return web.Response()

    async with an_engine(never) as address:
        running_proxy.observe(ready(address))
        asking = asyncio.create_task(running_proxy.post().__aenter__())
        async with asyncio.timeout(patient(10)):
            await came.wait()
            asking.cancel()
            await left.wait()
    async with asyncio.timeout(patient(10)):
        while activity(await running_proxy.published(events.ActivityObserved)) != (0, 0):
            await asyncio.sleep(0.01)


def activity(published: list[events.ActivityObserved]) -> tuple[int, int]:
    """Return what was published last: how many requests are in flight, and how many wait."""
    return published[-1].in_flight, published[-1].waiting


async def test_what_is_no_http_is_answered_in_the_shape_of_openai(running_proxy: RunningProxy) -> None:
    """By the server that the process runs."""
    headers = {"Authorization": "Bearer " + "s" * 9000}
    async with running_proxy.session.get(f"{running_proxy.base}/v1/models", headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (431, "request_header_too_large")


async def test_a_model_has_a_path_and_a_list_of_its_own(running_proxy: RunningProxy) -> None:
    """`/model/<namespace>/<name>/v1/...` needs no model in the body."""
    async with an_engine(hello) as address:
        running_proxy.observe(ready(address), scaled_to_zero("other"))
        async with running_proxy.post({"messages": []}, "/model/default/llama/v1/chat/completions") as answer:
            assert (await answer.json())["body"]["model"] == "llama"
        key = {"Authorization": "Bearer secret"}
        async with running_proxy.session.get(
            f"{running_proxy.base}/model/default/llama/v1/models", headers=key
        ) as answer:
            assert [m["id"] for m in (await answer.json())["data"]] == ["llama"]
        async with running_proxy.session.get(f"{running_proxy.base}/v1/models/other", headers=key) as answer:
            assert (await answer.json())["id"] == "other"
