"""HTTP: which headers pass, how errors look, and how a response that is cut off ends."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from flexinfer.proxy.http import application
from tests.unit.proxy.parts import Parts, ready

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Client = TestClient[web.Request, web.Application]
KEY = {"Authorization": "Bearer secret"}
PATH = "/model/default/llama/v1/completions"


@contextlib.asynccontextmanager
async def a_client(engine: Handler | None = None) -> AsyncIterator[Client]:
    """Run the proxy before a scripted engine, which one Model is served by; yields a client of it."""
    parts, app = Parts(), web.Application()
    follow = asyncio.create_task(parts.view.follow())
    app.router.add_post("/{path:.*}", engine or echo)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        await parts.replay(ready(address=f"{server.host}:{server.port}"))
        async with TestClient(TestServer(application(parts.gateway, session, "secret"))) as client:
            yield client
    follow.cancel()


async def echo(request: web.Request) -> web.Response:
    """Respond with what was received, and headers of each kind."""
    received = {"path": request.path_qs, "headers": sorted(h.lower() for h in request.headers)}
    return web.json_response(received, status=201, headers={"X-Engine": "yes", "Keep-Alive": "timeout=5"})


async def test_end_to_end_headers_pass_and_the_others_do_not() -> None:
    """Nor the API key; the path, its query and the status are the engine's."""
    async with a_client() as client:
        response = await client.post(f"{PATH}?n=1", json={}, headers=KEY | {"X-Trace": "1", "TE": "gzip"})
        received = await response.json()
    assert received["path"] == "/v1/completions?n=1"
    assert "x-trace" in received["headers"]
    assert not {"authorization", "te"} & set(received["headers"])
    assert (response.status, response.headers["X-Engine"]) == (201, "yes")
    assert "Keep-Alive" not in response.headers


async def test_health_needs_no_key() -> None:
    """Probes have none."""
    async with a_client() as client:
        response = await client.get("/healthz")
        assert (response.status, await response.text()) == (200, "ok")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/other", 404, "not_found"),
        ("DELETE", "/v1/models", 405, "invalid_request"),
        ("GET", "/v1/models/unknown", 404, "model_not_found"),
        ("GET", "/model/default/unknown/v1/models", 404, "model_not_found"),
    ],
)
async def test_every_error_has_the_shape_of_openai(method: str, path: str, status: int, code: str) -> None:
    """Also those of the HTTP library."""
    async with a_client() as client:
        response = await client.request(method, path, headers=KEY)
        error = (await response.json())["error"]
    assert (response.status, error["code"], response.headers["x-should-retry"]) == (status, code, "false")
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", "secret2"])
async def test_a_wrong_key_is_a_401_that_says_how_to_send_it(key: str) -> None:
    """Before the body is looked at."""
    async with a_client() as client:
        response = await client.post(PATH, data=b"{", headers={"Authorization": key})
        error = (await response.json())["error"]
    assert (response.status, error["type"]) == (401, "authentication_error")
    assert "`Authorization: Bearer KEY`" in error["message"]


async def test_an_engine_that_closes_the_connection_before_it_responds_is_a_502_that_names_the_model() -> (
    None
):
    """Not to be retried: the engine may have taken the request."""

    async def close(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with a_client(close) as client:
        response = await client.post(PATH, json={}, headers=KEY)
        message = (await response.json())["error"]["message"]
    assert (response.status, response.headers["x-should-retry"]) == (502, "false")
    assert message.startswith("the engine of model llama closed the connection before it responded: ")


async def test_a_response_that_is_cut_off_ends_in_an_aborted_connection() -> None:
    """A client must not take a part for the whole; only a stream of events has room for an error event."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"half":')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with a_client(cut) as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.post(PATH, json={}, headers=KEY) as response:
                await response.read()


async def test_a_large_body_reaches_the_engine_whole() -> None:
    """It is sent piece by piece."""

    async def size(request: web.Request) -> web.Response:
        return web.json_response({"size": len(await request.read())})

    async with a_client(size) as client:
        body = b'{"model": "llama", "prompt": "' + b"x" * (600 << 10) + b'"}'
        response = await client.post(PATH, data=io.BytesIO(body), headers=KEY)
        assert (await response.json())["size"] == len(body)
