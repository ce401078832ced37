"""Both transports on a loopback server: directly, or through the proxy of the environment."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest

from flexinfer.runtime.kubernetes.api import PODS, ApiError, UnavailableError
from flexinfer.runtime.kubernetes.client import KubernetesClient, connected
from tests.unit.runtime.kubernetes.pki import Authority
from tests.unit.runtime.kubernetes.test_kubeconfig import ask, serving, written

_POD = json.dumps({"metadata": {"name": "one", "namespace": "default"}}).encode()


@contextlib.asynccontextmanager
async def answering(asked: list[str]) -> AsyncIterator[int]:
    """Serve one Pod for every request and keep the request lines; yields the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                asked.append((await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0])
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (len(_POD), _POD)
                )
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def a_kubeconfig(folder: Path, server: str) -> str:
    """Return the path of a kubeconfig for a server."""
    path = folder / "kubeconfig"
    named = {"name": "it"}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "it",
                "clusters": [named | {"cluster": {"server": server}}],
                "contexts": [named | {"context": {"cluster": "it", "user": "it"}}],
                "users": [named | {"user": {"token": "none"}}],
            }
        )
    )
    return str(path)


@pytest.fixture(params=[False, True], ids=["pooled", "light"])
def transport(request: pytest.FixtureRequest) -> dict[str, bool]:
    """Return by which transport the server is asked."""
    return {"light": request.param}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_request_starts_no_thread(tmp_path: Path) -> None:
    """Neither ~/.netrc nor a proxy is looked up."""

    async def main() -> None:
        asked: list[str] = []
        async with (
            answering(asked) as port,
            connected(a_kubeconfig(tmp_path, f"http://127.0.0.1:{port}")) as api,
        ):
            before = threading.active_count()
            for _ in range(3):
                assert (await api.get(PODS, "default", "one")).metadata.name == "one"
            assert threading.active_count() == before
        assert asked == 3 * ["GET /api/v1/namespaces/default/pods/one HTTP/1.1"]

    asyncio.run(main())


def test_a_proxy_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: dict[str, bool]
) -> None:
    """As by kubectl: the proxy resolves the name of the server."""

    async def main() -> None:
        asked: list[str] = []
        async with answering(asked) as port:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
            async with connected(
                a_kubeconfig(tmp_path, "http://kubernetes.invalid"), light=transport["light"]
            ) as api:
                assert (await api.get(PODS, "default", "one")).metadata.name == "one"
        assert asked == ["GET http://kubernetes.invalid/api/v1/namespaces/default/pods/one HTTP/1.1"]

    asyncio.run(main())


def test_this_machine_is_asked_without_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: dict[str, bool]
) -> None:
    """`flexinfer up` listens on loopback: a proxy that is meant for downloads would refuse it, or not answer."""

    async def main() -> None:
        asked: list[str] = []
        async with answering(asked) as port:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
                monkeypatch.setenv(name, "http://127.0.0.1:9")
            async with connected(
                a_kubeconfig(tmp_path, f"http://127.0.0.1:{port}"), light=transport["light"]
            ) as api:
                assert (await api.get(PODS, "default", "one")).metadata.name == "one"
        assert asked == ["GET /api/v1/namespaces/default/pods/one HTTP/1.1"]

    asyncio.run(main())


@contextlib.asynccontextmanager
async def tunnelling(asked: list[str], to: int) -> AsyncIterator[int]:
    """Serve as a proxy that opens a tunnel to a port of loopback, whatever is requested; keep the heads; yields the port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
        writer.close()

    tunnels: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tunnels.append(task)
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        beyond, there = await asyncio.open_connection("127.0.0.1", to)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pass_on(reader, there), pass_on(beyond, writer))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tunnels)


async def test_a_server_with_tls_is_reached_through_a_tunnel_of_the_proxy(
    tmp_path: Path, transport: dict[str, bool]
) -> None:
    """The proxy has the login and the name of the server; the certificate is checked against that name."""
    authority, asked = Authority(tmp_path), list[str]()
    async with serving(authority, "api.invalid") as server, tunnelling(asked, server.port) as port:
        cluster = {
            "server": "https://api.invalid:6443",
            "certificate-authority": str(authority.certificate),
            "proxy-url": f"http://me:secret@127.0.0.1:{port}",
        }
        await ask(written(tmp_path / "config", cluster, {"token": "mine"}), light=transport["light"])
    assert asked[0].startswith("CONNECT api.invalid:6443 HTTP/1.")
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in asked[0]
    assert "mine" not in asked[0]
    assert server.requests == [("Bearer mine", "")]


async def test_a_light_client_refuses_a_proxy_that_is_reached_by_tls(tmp_path: Path) -> None:
    """The error says what to name in its place."""
    cluster = {"server": "https://api.invalid:6443", "proxy-url": "https://127.0.0.1:9"}
    with pytest.raises(ApiError, match="a proxy is reached by http:// here, not by https://"):
        await ask(written(tmp_path / "config", cluster, {"token": "mine"}), light=True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed connection without response|Server disconnected"),
        (b"SSH-2.0-x\r\n", "SSH-2.0|Bad"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "IncompleteRead|ContentLength|payload"),
    ],
)
async def test_what_is_no_answer_is_an_unavailable_server(
    tmp_path: Path, answer: bytes, words: str, transport: dict[str, bool]
) -> None:
    """It is retried by the caller as any outage."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(send, "127.0.0.1", 0)
    async with server:
        place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(UnavailableError, match=words):
            await ask(a_kubeconfig(tmp_path, place), light=transport["light"])


async def test_a_refusal_says_when_to_retry(tmp_path: Path, transport: dict[str, bool]) -> None:
    """By the header of the API server, however it is written."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nContent-Length: 4\r\n\r\nbusy")
        writer.close()

    server = await asyncio.start_server(send, "127.0.0.1", 0)
    async with server:
        place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(UnavailableError, match="busy") as refused:
            await ask(a_kubeconfig(tmp_path, place), light=transport["light"])
    assert refused.value.retry_after == 7


class _Silent:
    """A transport that is never answered."""

    @contextlib.asynccontextmanager
    async def request(self, *_: object, **__: object) -> AsyncIterator[NoReturn]:
        """Wait as long as a client does, in no time."""
        raise TimeoutError
        yield

    @contextlib.asynccontextmanager
    async def separate(self) -> AsyncIterator["_Silent"]:
        """Yield it again."""
        yield self


async def test_a_call_without_an_answer_says_what_happened() -> None:
    """A timeout has no words of its own."""
    with pytest.raises(UnavailableError, match="GET /api/v1/namespaces/default/pods/one: TimeoutError"):
        await KubernetesClient(_Silent()).get(PODS, "default", "one")
