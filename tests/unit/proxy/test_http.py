"""HTTP: which headers pass, how errors look, and how a response that is cut off ends."""

import asyncio
import contextlib
import gzip
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from flexinfer.api.address import host_port
from flexinfer.proxy import engine, http
from flexinfer.proxy.engine import engine_session
from flexinfer.proxy.http import application
from flexinfer.runtime.settings import Settings
from tests.patience import patient
from tests.unit.proxy.parts import Parts, ProxyServer, ready

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Client = TestClient[web.Request, web.Application]
KEY = {"Authorization": "Bearer secret"}
PATH = "/model/default/llama/v1/completions"


@contextlib.asynccontextmanager
async def a_client(
    engine: Handler | None = None,
    backend: str = "llamacpp",
    labels: tuple[str, ...] = (),
    litellm: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """Run the proxy before a scripted engine, which one Model is served by; yields a client of it."""
    async with TestServer(_answering(engine or echo)) as server:
        address = host_port(server.host, server.port or 0)
        spec: dict[str, Any] = {"backend": backend, "service_labels": labels, "litellm": litellm}
        async with a_proxy(address, spec, settings) as client:
            yield client


def _answering(engine: Handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine)
    return app


@contextlib.asynccontextmanager
async def a_proxy(
    address: str,
    spec: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **serverless: str,
) -> AsyncIterator[Client]:
    """Run the proxy before an engine at this address, which one Model is served by; yields a client of it."""
    parts = Parts(settings=Settings(**(settings or {})))
    follow = asyncio.create_task(parts.view.follow())
    async with engine_session() as session:
        await parts.replay()
        await parts.observe(ready(address=address, serverless=serverless, **(spec or {})))
        async with TestClient(ProxyServer(application(parts.gateway, session, "secret"))) as client:
            yield client
    follow.cancel()


async def echo(request: web.Request) -> web.Response:
    """Respond with what was received, and headers of each kind."""
    received = {"path": request.path_qs, "headers": sorted(h.lower() for h in request.headers)}
    return web.json_response(received, status=201, headers={"X-Engine": "yes", "Keep-Alive": "timeout=5"})


async def test_an_engine_gets_the_path_its_query_and_the_headers_that_say_how_to_read_the_request() -> None:
    """Not the API key; the status and the other headers of the response are the engine's."""
    async with a_client() as client:
        response = await client.post(
            f"{PATH}?n=1", json={}, headers=KEY | {"X-Request-Id": "1", "TE": "gzip"}
        )
        received = await response.json()
    assert received["path"] == "/v1/completions?n=1"
    assert {"x-request-id", "content-type"} <= set(received["headers"])
    assert not {"authorization", "te"} & set(received["headers"])
    assert (response.status, response.headers["X-Engine"]) == (201, "yes")
    assert "Keep-Alive" not in response.headers


async def test_a_request_before_the_models_were_read_is_answered_once_they_are_and_health_at_once() -> None:
    """A proxy that was restarted does not call a Model missing that it has not read yet."""
    parts = Parts()
    follow = asyncio.create_task(parts.view.follow())
    async with (
        TestServer(_answering(echo)) as server,
        engine_session() as session,
        TestClient(ProxyServer(application(parts.gateway, session, "secret"))) as client,
    ):
        asked = asyncio.create_task(client.post(PATH, json={}, headers=KEY))
        listed = asyncio.create_task(client.get("/v1/models", headers=KEY))
        assert (await client.get("/healthz")).status == 200
        assert not (asked.done() or listed.done())
        await parts.replay(ready(address=host_port(server.host, server.port or 0)))
        assert (await asked).status == 201
        assert [model["id"] for model in (await (await listed).json())["data"]] == ["llama"]
    follow.cancel()


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


async def test_a_key_that_is_no_text_is_a_wrong_key() -> None:
    """Any bytes may be in a header."""
    async with a_client() as client:
        answer = await raw(client, b"Authorization: Bearer \xff\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (b"X-Request-Id: \xff", b"400", b"invalid_header"),
        (b"Expect: a miracle", b"417", b"invalid_header"),
        (b"Expect: \xff", b"417", b"invalid_header"),
        (b"Content-Encoding: gzip", b"400", b""),
    ],
)
async def test_a_header_that_cannot_be_acted_upon_is_an_error_that_names_it(
    header: bytes, status: bytes, code: bytes
) -> None:
    """In OpenAI's shape, before an engine is asked."""
    async with a_client() as client:
        answer = await raw(client, b"Authorization: Bearer secret\r\n" + header + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert code in answer


async def raw(client: Client, headers: bytes, path: bytes = PATH.encode(), method: bytes = b"POST") -> bytes:
    """Send an empty object with these lines of headers; returns all that is answered."""
    assert client.port is not None
    reader, writer = await asyncio.open_connection(client.host, client.port)
    fixed = b"Host: proxy\r\nContent-Length: 2\r\nConnection: close\r\n"
    writer.write(method + b" " + path + b" HTTP/1.1\r\n" + fixed + headers + b"\r\n{}")
    answer = await reader.read()
    writer.close()
    return answer


async def test_an_engine_that_never_says_continue_is_not_waited_for() -> None:
    """The proxy has the whole body, and sends it at once."""
    async with a_client() as client, asyncio.timeout(patient(5)):
        response = await client.post(PATH, json={}, headers=KEY | {"Expect": "100-continue"})
        assert "expect" not in (await response.json())["headers"]


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("/object_info/a%3Fb%23c", "/object_info/a%3Fb%23c"),
        ("/object_info/Load%20VAE%20(x)", "/object_info/Load%20VAE%20(x)"),
        ("/prompt?x=%2B&y=a%26b", "/prompt?x=%2B&y=a%26b"),
    ],
)
async def test_the_engine_gets_the_path_with_the_escapes_that_were_sent(sent: str, received: str) -> None:
    """An escaped `?` begins no query."""
    async with a_client(backend="comfyui") as client:
        url = URL(f"/model/default/llama{sent}", encoded=True)
        response = await client.get(url, headers=KEY)
        assert (await response.json())["path"] == received


@pytest.mark.parametrize("path", ["/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/a/%2E./x"])
async def test_a_path_that_leaves_the_api_is_refused(path: str) -> None:
    """An engine serves more than its API."""
    async with a_client() as client:
        answer = await raw(
            client, b"Authorization: Bearer secret\r\n", b"/model/default/llama" + path.encode()
        )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_path" in answer


async def test_a_compressed_response_passes_as_it_is() -> None:
    """With the header that says so; engines are asked not to compress."""

    async def compressed(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"})

    async with a_client(compressed) as client:
        response = await client.post(PATH, json={}, headers=KEY)
        assert await response.text() == "hello"


async def test_a_header_of_an_engine_that_cannot_be_sent_is_left_out() -> None:
    """The response is still the engine's."""
    engine = plain_engine(b"X-A: \xff\r\nX-B: b\r\n")
    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    async with server, a_proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        response = await client.post(PATH, json={}, headers=KEY)
        received = (await response.text(), "X-A" in response.headers, response.headers["X-B"])
    assert received == ("ok", False, "b")


def plain_engine(headers: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return an engine that answers `ok` with these lines of headers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + headers + b"Content-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    return answer


async def test_an_engine_at_an_ipv6_address_is_reached() -> None:
    """Its address has brackets."""
    try:
        server = await asyncio.start_server(plain_engine(b""), "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with server, a_proxy(host_port("::1", server.sockets[0].getsockname()[1])) as client:
        assert await (await client.post(PATH, json={}, headers=KEY)).text() == "ok"


@pytest.mark.parametrize("address", ["a b", "[::1", "host:port", "a/b:1", "host:99999", "user@host:1"])
async def test_an_address_that_is_none_is_an_engine_that_refuses(address: str) -> None:
    """Nothing was sent, so it is tried again until the deadline."""
    async with a_proxy(address, cold_start_timeout="100ms") as client:
        response = await client.post(PATH, json={}, headers=KEY)
        assert (response.status, (await response.json())["error"]["code"]) == (502, "bad_gateway")


async def test_a_body_that_does_not_arrive_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits without an end."""
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    async with a_client() as client, asyncio.timeout(patient(5)):
        assert client.port is not None
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: proxy\r\nContent-Length: 2\r\n")
        writer.write(b"Authorization: Bearer secret\r\n\r\n{")
        answer = await reader.read(4096)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer


async def test_a_client_that_takes_nothing_gives_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine sees that as the end of the request."""
    monkeypatch.setattr(engine, "STALLED_SECONDS", 0.1)
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * (1 << 20))
        finally:
            ended.set()

    async with a_client(endless) as client, asyncio.timeout(patient(20)):
        assert client.port is not None
        _, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
        writer.write(b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: proxy\r\nContent-Length: 2\r\n")
        writer.write(b"Authorization: Bearer secret\r\n\r\n{}")
        await ended.wait()
        writer.close()


async def test_headers_that_concern_one_connection_alone_are_not_passed_on() -> None:
    """The header Connection names them."""
    async with a_client() as client:
        headers = KEY | {"Connection": "close, X-Request-Id", "X-Request-Id": "1", "Traceparent": "1"}
        received = await (await client.post(PATH, json={}, headers=headers)).json()
    assert ("x-request-id" in received["headers"], "traceparent" in received["headers"]) == (False, True)
