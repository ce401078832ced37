"""A list or a watch with an object that cannot be read: the others are served, the reader continues."""

import contextlib
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.model import CacheStatus
from flexinfer.api.placement import Placement
from flexinfer.runtime.kubernetes import objects
from flexinfer.runtime.kubernetes.api import MODELS, PODS, ApiError, UnavailableError
from flexinfer.runtime.kubernetes.client import KubernetesClient

POD = {"metadata": {"name": "one", "namespace": "default"}}
ODD = {"metadata": {"name": "odd", "namespace": "default"}, "status": {"phase": ["x"]}}
DEEP = b'{"metadata":{"name":"deep","namespace":"default"},"x":' + b"[" * 5000 + b"]" * 5000 + b"}"


class _Reply:
    """A reply of the API server."""

    def __init__(self, body: bytes) -> None:
        self.status, self.headers, self._body = 200, {"x": "y"}, body

    async def read(self) -> bytes:
        """Return the body."""
        return self._body

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield its lines."""
        for line in self._body.splitlines():
            yield line


class _Scripted:
    """A transport that answers every request with one body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    @contextlib.asynccontextmanager
    async def request(self, *_: object, **__: object) -> AsyncIterator[_Reply]:
        """Yield the reply."""
        yield _Reply(self._body)

    @contextlib.asynccontextmanager
    async def separate(self) -> AsyncIterator["_Scripted"]:
        """Yield it again."""
        yield self


def a_client(body: bytes) -> KubernetesClient:
    """Return a client whose API server sends this body."""
    return KubernetesClient(_Scripted(body))


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


OF_AN_EARLIER_RELEASE = {
    "metadata": {"name": "m", "namespace": "default", "uid": "u"},
    "spec": {"backend": "llamacpp", "source": "hf://a/b"},
    "status": {
        "phase": "Idle",
        "conditions": [{"type": "Placed", "status": "True", "reason": "Placed"}, {"type": 7}],
        "placement": {"node": "a", "vendor": "nvidia", "devices": ["GPU-1"], "footprintMB": 700},
        "cache": {"ready": True, "bytes": "many"},
        "backend": ["x"],
    },
}


async def test_a_status_of_an_earlier_shape_makes_no_valid_spec_invalid() -> None:
    """What cannot be read of it counts as absent, down to the device of a placement, and is named."""
    body = a_list(json.dumps(OF_AN_EARLIER_RELEASE).encode())
    [model] = (await a_client(body).list(MODELS)).items
    assert (model.unreadable, model.spec.backend) == ("", "llamacpp")
    assert model.status.phase == "Idle"
    assert [condition.type for condition in model.status.conditions] == ["Placed"]
    assert model.status.placement == Placement(node="a", vendor="nvidia", footprint_mb=700)
    assert model.status.cache == CacheStatus(ready=True)
    assert model.status.backend is None
    for part in (
        "status.placement.devices[0]",
        "status.conditions[1]",
        "status.cache.bytes",
        "status.backend",
    ):
        assert any(lost.startswith(f"{part}: ") for lost in model.unreadable_status)


@pytest.mark.parametrize("status", [None, [], "x", {"conditions": None}, {"placement": {"devices": 5}}])
async def test_a_status_of_any_shape_is_read(status: object) -> None:
    """Whatever another release, or a hand, has written there."""
    body = json.dumps(OF_AN_EARLIER_RELEASE | {"status": status}).encode()
    model = await a_client(body).get(MODELS, "default", "m")
    assert (model.unreadable, model.spec.source) == ("", "hf://a/b")
    assert model.status.conditions == ()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("conditions", "placement", "devices", "type", "status", "uuid", "cache", "sharedGroup")
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_no_status_makes_a_model_unreadable(status: object) -> None:
    """And what is read of it can be written and read again."""
    raw = json.dumps(OF_AN_EARLIER_RELEASE | {"status": status}).encode()
    model = objects.read(MODELS, raw)
    assert model.unreadable == ""
    model = msgspec.structs.replace(model, unreadable_status=())
    assert objects.read(MODELS, msgspec.json.encode(model)) == model
