"""A list or a watch with an object that cannot be read: the others are served, the reader goes on."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from flexinfer.runtime.kubernetes.api import MODELS, PODS, ApiError, UnavailableError
from flexinfer.runtime.kubernetes.client import KubernetesClient

POD = {"metadata": {"name": "one", "namespace": "default"}}
ODD = {"metadata": {"name": "odd", "namespace": "default"}, "status": {"phase": ["x"]}}
DEEP = b'{"metadata":{"name":"deep","namespace":"default"},"x":' + b"[" * 5000 + b"]" * 5000 + b"}"


class _Content:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield the body in one piece."""
        yield self._body


class _Reply:
    """A reply of the API server."""

    def __init__(self, body: bytes) -> None:
        self.status, self.headers, self.content, self._body = 200, {"x": "y"}, _Content(body), body

    async def read(self) -> bytes:
        """Return the body."""
        return self._body


class _Scripted:
    """A transport that answers every request with one body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    @contextlib.asynccontextmanager
    async def request(self, *_: Any, **__: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the reply."""
        reply: Any = _Reply(self._body)
        yield reply


def a_client(body: bytes) -> KubernetesClient:
    """Return a client whose API server sends this body."""
    transport: Any = _Scripted(body)
    return KubernetesClient(transport)


def a_list(*items: bytes) -> bytes:
    """Return the body of a list."""
    return b'{"metadata":{"resourceVersion":"7"},"items":[' + b",".join(items) + b"]}"


async def test_a_list_without_the_object_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its name and field."""
    body = a_list(json.dumps(ODD).encode(), DEEP, json.dumps(POD).encode())
    listing = await a_client(body).list(PODS)
    assert [pod.metadata.name for pod in listing.items] == ["deep", "one"]
    assert "Pod default/odd cannot be read" in caplog.text
    assert "$.status.phase" in caplog.text


async def test_a_watch_goes_on_after_an_object_that_cannot_be_read() -> None:
    """Its version counts, its content does not."""
    lines = b"\n".join(json.dumps({"type": "ADDED", "object": one}).encode() for one in (ODD, POD)) + b"\n"
    changes = [change async for change in a_client(lines).watch(PODS, "1")]
    assert [change.object is not None for change in changes] == [False, True]


async def test_a_model_with_an_unreadable_spec_is_listed() -> None:
    """It says why, so that its owner can be told and it can be deleted."""
    odd = {"metadata": {"name": "m", "namespace": "default", "uid": "u"}, "spec": {"backend": 5}}
    [model] = (await a_client(a_list(json.dumps(odd).encode())).list(MODELS)).items
    assert model.uid == "u"
    assert "$.spec" in model.unreadable


async def test_one_object_that_cannot_be_read_is_an_error_of_the_api() -> None:
    """Which every caller expects, and tries again."""
    with pytest.raises(ApiError, match="Pod default/odd cannot be read"):
        await a_client(json.dumps(ODD).encode()).get(PODS, "default", "odd")
    with pytest.raises(UnavailableError, match="reply cannot be read"):
        await a_client(b"<html>").list(PODS)
