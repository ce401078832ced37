"""Who may use the proxy: the key in every form that clients send, and web pages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flexinfer.proxy.__main__ import api_key
from tests.patience import patient
from tests.unit.proxy.test_http import KEY, PATH, Client, a_client, raw

PAGE = {"Origin": "https://chat.example.com"}


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer secret",
        "Authorization: bearer secret",
        "Authorization: BEARER   secret  ",
        "Authorization: Bearer\tsecret",
        "authorization:Bearer secret",
        "x-api-key: secret",
        "X-API-Key:  secret ",
        "Authorization: Bearer wrong\r\nx-api-key: secret",
    ],
)
async def test_the_key_is_taken_however_a_client_sends_it(line: str) -> None:
    """A scheme has no case (RFC 9110, 11.1); Anthropic's clients send `x-api-key`."""
    async with a_client() as client:
        answer = await raw(client, line.encode() + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer schlüssel".encode(),
        "x-api-key: ключ".encode(),
        b"Authorization: Bearer \xff\xed\xa0\x80",
        b"x-api-key: \xff",
        "Authorization: Bearer secret\u00a0".encode(),
        b"Authorization: Basic secret",
        b"Authorization:",
    ],
)
async def test_a_key_of_any_bytes_that_is_not_the_key_is_a_401(line: bytes) -> None:
    """Never an error of the proxy."""
    async with a_client() as client:
        answer = await raw(client, line + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"invalid_api_key" in answer


async def test_a_client_that_waits_to_send_its_body_is_asked_for_its_key_first() -> None:
    """It has sent no body for nothing then; the engine is not asked either."""
    async with a_client() as client:
        without = await raw(client, b"Expect: 100-continue\r\n")
        with_key = await raw(client, b"Expect: 100-continue\r\nx-api-key: secret\r\n")
    assert without.startswith(b"HTTP/1.1 401 ")
    assert with_key.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")


async def preflight(client: Client, path: str) -> dict[str, str]:
    """Ask what a page may send, as a browser does; returns the headers of the answer."""
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = await client.options(path, headers=PAGE | asked)
    assert answer.status == 204
    return dict(answer.headers)


@pytest.mark.parametrize("path", [PATH, "/v1/models", "/v1/chat/completions"])
async def test_a_preflight_needs_no_key(path: str) -> None:
    """A browser sends none."""
    async with a_client() as client:
        headers = await preflight(client, path)
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Headers"] == "authorization,content-type"


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("POST", PATH, KEY, 201),
        ("GET", "/v1/models", KEY, 200),
        ("GET", "/v1/models", {}, 401),
        ("POST", "/v1/unknown", KEY, 404),
        ("DELETE", "/v1/models", KEY, 405),
        ("POST", PATH, KEY | {"Expect": "a miracle"}, 417),
        ("OPTIONS", "/v1/models", {}, 401),
    ],
)
async def test_a_page_can_read_every_answer_and_every_error(
    method: str, path: str, key: dict[str, str], status: int
) -> None:
    """Otherwise its browser shows a network error in place of the cause."""
    async with a_client() as client:
        answer = await client.request(method, path, headers=key | PAGE, json={})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, "*")


async def test_a_page_can_read_what_is_answered_to_a_header_that_is_too_large() -> None:
    """Although there is no request yet."""
    async with a_client() as client:
        answer = await raw(client, b"X-A: " + b"x" * 9000 + b"\r\n")
    assert b"\r\naccess-control-allow-origin: *\r\n" in answer.lower()


async def test_only_pages_of_the_setting_are_allowed() -> None:
    """An engine's own rules do not matter."""
    async with a_client(cors_origins="https://chat.example.com") as client:
        ours = await client.get("/v1/models", headers=KEY | PAGE)
        other = await client.get("/v1/models", headers=KEY | {"Origin": "https://other.example.com"})
        headers = await preflight(client, PATH)
    assert ours.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
    assert "Access-Control-Allow-Origin" not in other.headers
    assert headers["Access-Control-Allow-Origin"] == PAGE["Origin"]


@pytest.mark.parametrize(
    "lines",
    [
        b"X-A: " + b"s" * 8191 + b"\r\n",
        b"Authorization: Bearer " + b"s" * 9000 + b"\r\n",
        b"Cookie: " + b"s" * 40000 + b"\r\n",
        b"".join(b"X-%d: ssssssssssss\r\n" % n for n in range(200)),
    ],
    ids=["one byte too many", "the key", "a cookie", "too many headers"],
)
async def test_headers_that_are_too_large_are_a_431_that_does_not_repeat_them(lines: bytes) -> None:
    """They may be a key."""
    async with a_client() as client:
        answer = await raw(client, lines)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"431"
    error = json.loads(body)["error"]
    assert (error["code"], error["type"]) == ("request_header_too_large", "invalid_request_error")
    assert b"ssss" not in answer
    assert b"x-should-retry: false" in head.lower()


async def test_a_header_of_8190_bytes_is_read() -> None:
    """One byte more is not."""
    async with a_client() as client:
        answer = await raw(client, b"x-api-key: secret\r\nX-A: " + b"s" * 8190 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    ("path", "lines", "status", "code"),
    [
        (b"/v1/" + b"s" * 9000, b"", 414, b"request_header_too_large"),
        (PATH.encode(), b"X A: ssss\r\n", 400, b"invalid_http"),
        (PATH.encode(), b"Transfer-Encoding: ssss\r\n", 400, b"invalid_http"),
    ],
)
async def test_what_is_no_http_is_an_error_in_the_shape_of_openai(
    path: bytes, lines: bytes, status: int, code: bytes
) -> None:
    """And repeats nothing either."""
    async with a_client() as client:
        answer = await raw(client, lines, path)
    assert answer.split()[1] == b"%d" % status
    assert code in answer
    assert b"ssss" not in answer


@pytest.mark.parametrize("content", ["", " \n", None])
def test_a_key_file_without_a_key_stops_the_proxy(tmp_path: Path, content: str | None) -> None:
    """It would let every client in: the process ends before it serves, with the variable and the remedy."""
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    command = [sys.executable, "-m", "flexinfer.proxy"]
    environment = {**os.environ, "FLEXINFER_API_KEY_FILE": str(file)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert done.returncode == 2
    assert "flexinfer-proxy: FLEXINFER_API_KEY_FILE" in done.stderr
    assert str(file) in done.stderr


def test_a_proxy_without_a_key_file_requires_no_key() -> None:
    """As the setting says."""
    assert api_key("") == ""
