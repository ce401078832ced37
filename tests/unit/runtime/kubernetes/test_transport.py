"""The transport on a loopback server: directly, or through the proxy of the environment."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flexinfer.runtime.kubernetes.api import PODS
from flexinfer.runtime.kubernetes.client import connected

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


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by kubectl: the proxy resolves the name of the server."""

    async def main() -> None:
        asked: list[str] = []
        async with answering(asked) as port:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
            async with connected(a_kubeconfig(tmp_path, "http://kubernetes.invalid")) as api:
                assert (await api.get(PODS, "default", "one")).metadata.name == "one"
        assert asked == ["GET http://kubernetes.invalid/api/v1/namespaces/default/pods/one HTTP/1.1"]

    asyncio.run(main())


def test_this_machine_is_asked_without_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`flexinfer up` listens on loopback: a proxy that is meant for downloads would refuse it, or not answer."""

    async def main() -> None:
        asked: list[str] = []
        async with answering(asked) as port:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
                monkeypatch.setenv(name, "http://127.0.0.1:9")
            async with connected(a_kubeconfig(tmp_path, f"http://127.0.0.1:{port}")) as api:
                assert (await api.get(PODS, "default", "one")).metadata.name == "one"
        assert asked == ["GET /api/v1/namespaces/default/pods/one HTTP/1.1"]

    asyncio.run(main())
