"""Requests that are not JSON: what clients read from an engine, and the forms that they upload."""

import io
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from flexinfer.events import events
from tests.unit.proxy.parts import Parts, scaled_to_zero, settle, with_parts
from tests.unit.proxy.test_forms import FILE, TYPE, a_form
from tests.unit.proxy.test_http import KEY, a_client

OWN = "/model/default/llama"


async def told(request: web.Request) -> web.Response:
    """Respond with what an engine got, byte for byte."""
    received: dict[str, Any] = {
        "method": request.method,
        "path": request.path_qs,
        "type": request.headers.get("Content-Type", ""),
        "length": request.headers.get("Content-Length"),
        "body": (await request.read()).hex(),
    }
    return web.json_response(received)


@pytest.mark.parametrize(
    ("backend", "path"),
    [
        ("comfyui", "/history"),
        ("comfyui", "/history/0a1b"),
        ("comfyui", "/view?filename=a%20b.png&type=output"),
        ("comfyui", "/queue"),
        ("vllm-omni", "/v1/videos/video_1"),
        ("vllm-omni", "/v1/videos/video_1/content"),
    ],
)
async def test_a_get_request_reaches_the_engine_by_the_path_of_its_model(backend: str, path: str) -> None:
    """With its query, and without a body."""
    async with a_client(told, backend) as client:
        response = await client.get(OWN + path, headers=KEY)
        received = await response.json()
    assert response.status == 200
    assert (received["method"], received["path"]) == ("GET", path)
    assert (received["length"], received["body"]) == (None, "")


async def test_a_get_request_reaches_the_engine_by_the_host_of_its_model() -> None:
    """As any other request."""
    async with a_client(told, "comfyui") as client:
        response = await client.get("/history", headers=KEY | {"Host": "llama.default"})
        assert (await response.json())["path"] == "/history"


async def test_an_image_arrives_as_the_engine_sent_it() -> None:
    """Bytes and type."""
    image = bytes(range(256)) * 4096

    async def engine(_: web.Request) -> web.Response:
        return web.Response(body=image, content_type="image/png")

    async with a_client(engine, "comfyui") as client:
        response = await client.get(f"{OWN}/view?filename=a.png", headers=KEY)
        assert response.content_type == "image/png"
        assert await response.read() == image


async def test_a_head_request_has_the_headers_of_the_response_alone() -> None:
    """As RFC 9110, 9.3.2 defines it."""

    async def engine(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 7, headers={"X-Method": request.method})

    async with a_client(engine, "comfyui") as client:
        response = await client.head(f"{OWN}/view", headers=KEY)
        assert (response.status, response.headers["X-Method"]) == (200, "HEAD")
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("backend", "method", "path", "status"),
    [
        ("comfyui", "POST", "/view", 405),
        ("comfyui", "GET", "/upload/image", 405),
        ("comfyui", "DELETE", "/history", 405),
        ("comfyui", "GET", "/free", 404),
        ("comfyui", "GET", "/ws", 404),
        ("llamacpp", "GET", "/v1/chat/completions", 405),
        ("llamacpp", "GET", "/slots", 404),
        ("llamacpp", "GET", "/metrics", 404),
        ("llamacpp", "GET", "/history", 404),
    ],
)
async def test_what_a_backend_does_not_serve_by_a_method_reaches_no_engine(
    backend: str, method: str, path: str, status: int
) -> None:
    """405 where another method is right, which the message names."""
    async with a_client(told, backend) as client:
        response = await client.request(method, OWN + path, headers=KEY)
        error = (await response.json())["error"]
    assert response.status == status
    assert path in error["message"]
    assert status == 404 or "send " in error["message"]


async def test_a_get_request_that_names_no_model_says_where_its_model_stands() -> None:
    """It has no body to name one in."""
    async with a_client(told, "comfyui") as client:
        response = await client.get("/history/1", headers=KEY)
        error = (await response.json())["error"]
    assert response.status == 400
    assert "/model/<namespace>/<name>/history/1" in error["message"]


@pytest.mark.parametrize(("sent", "known"), [("llama", "llama"), ("default/llama", "llama")])
async def test_a_form_reaches_the_engine_of_the_model_that_it_names(sent: str, known: str) -> None:
    """Unchanged, but for the name where the engine knows another one."""
    form = a_form(FILE, ('; name="model"', sent.encode()), ('; name="language"', b"de"))
    async with a_client(told, "vllm") as client:
        response = await client.post(
            "/v1/audio/transcriptions", data=form, headers=KEY | {"Content-Type": TYPE}
        )
        received = await response.json()
    assert response.status == 200, received
    assert received["type"] == TYPE
    assert bytes.fromhex(received["body"]) == form.replace(sent.encode(), known.encode())


async def test_a_form_without_a_model_reaches_the_engine_by_path_unchanged() -> None:
    """ComfyUI's uploads name none; nothing is added to them."""
    form = a_form(FILE, ('; name="overwrite"', b"true"))
    async with a_client(told, "comfyui") as client:
        response = await client.post(f"{OWN}/upload/image", data=form, headers=KEY | {"Content-Type": TYPE})
        assert bytes.fromhex((await response.json())["body"]) == form


async def test_a_form_of_a_client_library_with_a_large_file_arrives_whole() -> None:
    """Larger than what is sent to an engine in one piece."""
    audio = bytes(range(256)) * (1 << 14)
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(audio), filename="a.wav", content_type="audio/wav")
    form.add_field("model", "llama")

    async def engine(request: web.Request) -> web.Response:
        body = b"".join([chunk async for chunk in request.content.iter_any()])
        return web.json_response({"whole": audio in body, "model": b"\r\n\r\nllama\r\n" in body})

    async with a_client(engine, "vllm", body_limit_mib=16) as client:
        response = await client.post("/v1/audio/transcriptions", data=form, headers=KEY)
        assert await response.json() == {"whole": True, "model": True}


async def test_a_form_larger_than_the_limit_is_refused_as_any_body() -> None:
    """413, with the setting."""
    form = io.BytesIO(a_form(('; name="file"', b"x" * (2 << 20)), ('; name="model"', b"llama")))
    async with a_client(told, "vllm", body_limit_mib=1) as client:
        response = await client.post(
            "/v1/audio/transcriptions", data=form, headers=KEY | {"Content-Type": TYPE}
        )
        assert response.status == 413
        assert "FLEXINFER_BODY_LIMIT_MIB" in await response.text()


async def test_a_form_that_is_cut_short_is_a_400() -> None:
    """Before the Model is looked for."""
    async with a_client(told, "vllm") as client:
        response = await client.post(
            "/v1/audio/transcriptions", data=a_form(FILE)[:-6], headers=KEY | {"Content-Type": TYPE}
        )
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_form")


def test_a_get_request_starts_its_model_and_is_queued_meanwhile() -> None:
    """As any request: a page that shows results may be the first to ask."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero(backend="comfyui"))
        request = parts.gateway.resolve(f"{OWN}/history", "proxy", b"", method="GET")
        assert (request.method, request.body) == ("GET", b"")
        sending = parts.send(request)
        await settle()
        assert parts.published(events.WakeRequested)
        sending.cancel()

    with_parts(main)


async def test_json_stays_json() -> None:
    """Whatever type a client gives it: curl's default is another one."""
    async with a_client(told, "vllm") as client:
        for content_type in ("application/json", "application/x-www-form-urlencoded"):
            response = await client.post(
                "/v1/completions", data=b'{"model": "llama"}', headers=KEY | {"Content-Type": content_type}
            )
            assert json.loads(bytes.fromhex((await response.json())["body"])) == {"model": "llama"}
