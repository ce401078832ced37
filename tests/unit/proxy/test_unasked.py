"""What one side sends and the other did not ask for: headers, redirects, addresses, paths."""

import asyncio
import gzip
import io
import json
from typing import Any

import pytest
from aiohttp import web

from flexinfer.api.address import host_port
from flexinfer.events import events
from tests.unit.proxy.parts import Parts, scaled_to_zero, settle, with_parts
from tests.unit.proxy.test_http import KEY, PATH, a_client, a_proxy, plain_engine, raw


@pytest.mark.parametrize(
    "name",
    [
        "Cookie",
        "x-api-key",
        "Forwarded",
        "X-Forwarded-For",
        "X-Real-IP",
        "Via",
        "Referer",
        "Origin",
        "User-Agent",
        "Proxy-Authorization",
        "X-Anything",
        "Expect",
    ],
)
async def test_an_engine_gets_no_header_that_says_who_the_client_is(name: str) -> None:
    """Nor anything that it needs not."""
    received: dict[str, str] = {}

    async def engine(request: web.Request) -> web.Response:
        received.update({k.lower(): v for k, v in request.headers.items()})
        return web.json_response({})

    async with a_client(engine) as client:
        value = "100-continue" if name == "Expect" else "theirs"
        await raw(client, f"Authorization: Bearer secret\r\n{name}: {value}\r\n".encode())
    assert received
    assert value not in received.get(name.lower(), "")


@pytest.mark.parametrize(
    "name", ["Content-Type", "Accept", "X-Request-Id", "Traceparent", "anthropic-version"]
)
async def test_an_engine_gets_what_says_how_to_read_and_follow_the_request(name: str) -> None:
    """As the client wrote it."""

    async def engine(request: web.Request) -> web.Response:
        return web.json_response({"value": request.headers.get(name)})

    async with a_client(engine) as client:
        response = await client.post(PATH, data=b"{}", headers=KEY | {name: "a/b"})
        assert (await response.json())["value"] == "a/b"


UNASKED = {
    "Server": "uvicorn",
    "Set-Cookie": "a=b",
    "Location": "http://10.0.0.5:8080/",
    "Strict-Transport-Security": "max-age=99999999",
    "WWW-Authenticate": "Basic",
    "Alt-Svc": 'h3=":443"',
    "Access-Control-Allow-Origin": "https://engine.example.com",
    "Access-Control-Allow-Credentials": "true",
    "Via": "1.1 10.0.0.5",
    "X-Powered-By": "engine",
}
KEPT = {
    "Content-Language": "de",
    "Content-Disposition": "attachment",
    "Cache-Control": "no-store",
    "ETag": '"1"',
    "Vary": "Accept",
    "Retry-After": "7",
    "X-Request-Id": "1",
    "openai-processing-ms": "5",
}


async def test_a_client_gets_what_an_engine_says_of_its_response_and_nothing_of_its_server() -> None:
    """Its cookies and its rules for a domain would be the proxy's."""

    async def engine(_request: web.Request) -> web.Response:
        return web.json_response({}, headers=UNASKED | KEPT)

    async with a_client(engine) as client:
        response = await client.post(PATH, json={}, headers=KEY)
    assert not {n for n in UNASKED if response.headers.get(n) == UNASKED[n]}
    assert response.headers.getall("Access-Control-Allow-Origin") == ["*"]
    assert {n: response.headers.get(n) for n in KEPT} == KEPT
    assert "Server" not in response.headers


@pytest.mark.parametrize("accepted", ["", "identity", "gzip", "br"])
async def test_an_engine_is_asked_for_no_encoding(accepted: str) -> None:
    """Whatever the client accepts; what the engine encodes all the same arrives with the header that says so."""

    async def engine(request: web.Request) -> web.Response:
        assert request.headers.getall("Accept-Encoding") == ["identity"]
        return web.Response(body=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"})

    async with a_client(engine) as client:
        line = f"Accept-Encoding: {accepted}\r\n" if accepted else ""
        answer = await raw(client, f"x-api-key: secret\r\n{line}".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert gzip.decompress(body) == b"hello"


async def test_a_body_that_a_client_encoded_reaches_the_engine_plain() -> None:
    """The proxy reads it, and may write another name into it."""

    async def engine(request: web.Request) -> web.Response:
        assert "Content-Encoding" not in request.headers
        return web.json_response(json.loads(await request.read()))

    async with a_client(engine) as client:
        body = gzip.compress(b'{"model": "default/llama", "n": 1}')
        headers = KEY | {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        response = await client.post(PATH, data=body, headers=headers)
        assert await response.json() == {"model": "llama", "n": 1}


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_an_encoded_stream_that_is_cut_gets_no_plain_event(encoding: str) -> None:
    """It would be noise in the middle of it; the connection is aborted."""

    async def engine(request: web.Request) -> web.StreamResponse:
        head = {"Content-Type": "text/event-stream", "Content-Encoding": encoding}
        response = web.StreamResponse(headers=head)
        await response.prepare(request)
        await response.write(b"\x1f\x8b")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with a_client(engine) as client:
        try:
            answer = await raw(client, b"x-api-key: secret\r\n")
        except ConnectionResetError:
            answer = b""
    assert b"upstream_disconnected" not in answer


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
async def test_a_redirect_of_an_engine_is_a_502_that_names_no_address(status: int) -> None:
    """It would lead past the proxy."""

    async def engine(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"http://{request.host}/elsewhere"})

    async with a_client(engine) as client:
        response = await client.post(PATH, json={}, headers=KEY, allow_redirects=False)
        text = await response.text()
    assert (response.status, "Location" in response.headers) == (502, False)
    assert f"HTTP {status}" in text
    assert "127.0.0.1" not in text


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"",
    ],
    ids=["101", "no HTTP", "a bad length", "nothing"],
)
async def test_an_engine_that_does_not_answer_in_http_is_a_502_that_names_no_address(answer: bytes) -> None:
    """A client could do nothing with it."""

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, a_proxy(f"127.0.0.1:{port}") as client:
        response = await client.post(PATH, json={}, headers=KEY | {"Connection": "close"})
        text = await response.text()
    assert response.status == 502
    assert "127.0.0.1" not in text
    assert str(port) not in text


async def test_an_engine_that_refuses_connections_is_named_by_its_model_alone() -> None:
    """Not by its address."""
    server = await asyncio.start_server(plain_engine(b""), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with a_proxy(host_port("127.0.0.1", port), cold_start_timeout="100ms") as client:
        response = await client.post(PATH, json={}, headers=KEY)
        text = await response.text()
    assert response.status == 502
    assert "model llama" in text
    assert str(port) not in text


NOT_SERVED = [
    "/v1/slots",
    "/slots",
    "/metrics",
    "/v1/load_lora_adapter",
    "/v1/chat",
    "/v1/chat/completions/x",
    "/v1/CHAT/completions",
    "/v1/chat/completions%3Fx",
    "/v1/chat/completions;x",
    "/v1/%2573lots",
    "/props",
    "/v1",
    "/",
]


@pytest.mark.parametrize("path", NOT_SERVED)
async def test_a_path_that_the_backend_does_not_serve_is_a_404_before_anything_starts(path: str) -> None:
    """Neither is an engine asked, nor a Model started."""
    asked: list[str] = []

    async def engine(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({})

    async with a_client(engine) as client:
        own = await raw(client, b"x-api-key: secret\r\n", b"/model/default/llama" + path.encode())
        named = await raw(client, b"x-api-key: secret\r\nHost: llama.default\r\n", path.encode())
    for answer in (own, named):
        assert answer.split()[1] in {b"404", b"400"}
    assert own.split()[1] == b"404"
    assert b'"code":"not_found"' in own
    assert b"/v1/chat/completions" in own
    assert not asked


def test_a_path_that_is_not_served_starts_no_model() -> None:
    """Also one that other backends serve, and that only the body names the Model for."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        for path in ("/v1/images/generations", "/prompt", "/v1/slots"):
            with pytest.raises(Exception, match="does not serve POST"):
                parts.gateway.resolve(path, "proxy", b'{"model": "llama"}')
        await settle()
        assert not parts.published(events.WakeRequested)

    with_parts(main)


@pytest.mark.parametrize(
    "path",
    ["/v1/%2e%2e/slots", "/v1/..%2Fslots", "/v1/chat/completions/%2e%2e/%2e%2e/slots", "/v1/%2e/models"],
)
async def test_no_escape_leads_to_another_path_of_the_engine(path: str) -> None:
    """Dots that climb are refused, whatever they are written as."""
    async with a_client() as client:
        answer = await raw(client, b"x-api-key: secret\r\n", b"/model/default/llama" + path.encode())
    assert answer.split()[1] == b"400"
    assert b"invalid_path" in answer


@pytest.mark.parametrize(
    "path", ["/v1/completions/", "//v1//completions", "/v1/completions%2F", "/v1%2Fcompletions"]
)
async def test_an_engine_gets_the_path_that_the_backend_names(path: str) -> None:
    """However it was written."""
    async with a_client() as client:
        answer = await raw(client, b"x-api-key: secret\r\n", b"/model/default/llama" + path.encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["path"] == "/v1/completions"


@pytest.mark.parametrize(
    "path", ["/v1/models/", "//v1/models", "/v1/models/llama/", "/v1/models/default%2Fllama"]
)
async def test_the_proxys_own_paths_are_normalised_too(path: str) -> None:
    """In the same way."""
    async with a_client() as client:
        answer = await raw(client, b"x-api-key: secret\r\n", path.encode(), method=b"GET")
    assert answer.split()[1] == b"200"


@pytest.mark.parametrize("body", [b"{}", b'{"model": null}', b'{"model": ""}', b'{"model": "another"}'])
async def test_the_path_of_a_model_says_which_it_is(body: bytes) -> None:
    """Whatever the body says."""

    async def engine(request: web.Request) -> web.Response:
        return web.json_response(await request.json())

    async with a_client(engine) as client:
        response = await client.post(PATH, data=body, headers=KEY)
        assert await response.json() == {"model": "llama"}


@pytest.mark.parametrize("body", [b"{}", b'{"model": null}', b'{"model": ""}'])
async def test_a_body_without_a_model_is_a_400_where_nothing_else_names_one(body: bytes) -> None:
    """With the field that is missing."""
    async with a_client() as client:
        response = await client.post("/v1/completions", data=body, headers=KEY)
        assert (response.status, (await response.json())["error"]["param"]) == (400, "model")


@pytest.mark.parametrize(
    "host", ["llama.default", "LLAMA.default.svc:80", "nas.lan", "mistral.default", "a.b.svc"]
)
async def test_a_host_selects_a_model_only_if_there_is_one(host: str) -> None:
    """Any other is a name of the user's network: the body says which Model."""
    async with a_client() as client:
        headers = KEY | {"Host": host}
        response = await client.post("/v1/completions", json={"model": "llama"}, headers=headers)
        listed = await client.get("/v1/models", headers=headers)
        assert (response.status, listed.status) == (201, 200)


@pytest.mark.parametrize(
    ("limit", "size", "status"), [(1, (1 << 20) + 1, 413), (1, 1 << 20, 201), (2, 2 << 20, 201)]
)
async def test_a_body_may_be_as_large_as_the_setting_says(limit: int, size: int, status: int) -> None:
    """Announced by Content-Length, or sent in chunks."""

    async def chunks(data: bytes) -> Any:
        yield data

    body = b'{"model": "llama", "x": "' + b"x" * size
    body = body[: size - 2] + b'"}'
    async with a_client(body_limit_mib=limit) as client:
        for data in (io.BytesIO(body), chunks(body)):
            response = await client.post(PATH, data=data, headers=KEY)
            assert response.status == status
            if status == 413:
                message = (await response.json())["error"]["message"]
                assert (
                    message
                    == "the request body is larger than 1 MiB (FLEXINFER_BODY_LIMIT_MIB); send a smaller one"
                )
