"""Messages with any values: what decodes is survived, and costs no other Model anything."""

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.codec import UndecodableError, decode, encode
from flexinfer.events.events import AnyEvent
from flexinfer.proxy import openai
from flexinfer.proxy.errors import RequestError
from tests.unit.proxy.parts import ADDRESS, Parts, ready, scaled_to_zero, settle, with_parts
from tests.unit.proxy.test_models import with_aliases

FEW = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
DAY = 24 * 3600.0
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "/",
            "a/b",
            "x" * 5000,
            "9" * 5000 + "h",
            "-1",
            "0s",
            "\x00",
            "2026-13-45T99:99:99Z",
            "0001-01-01T00:00:00",
            "[::1",
            "a b:c",
            "http://x",
            "://",
            ":",
            "Draining",
            "True",
            "vllm",
            [],
            {},
            [[]],
            {"a": None},
        ]
    ),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to every part of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in items for place in places(part, (*at, key)))]


def put(value: Any, at: tuple[Any, ...], part: Any) -> Any:
    """Return a JSON value with another part at a path; the same if there is no such path."""
    if not at:
        return part
    changed = copy.copy(value)
    try:
        changed[at[0]] = put(value[at[0]], at[1:], part)
    except (KeyError, IndexError, TypeError):
        return value
    return changed


def plain(event: AnyEvent) -> Any:
    """Return an event as plain JSON."""
    return json.loads(encode(event))


def whole(model: Callable[..., Model]) -> Any:
    """Return the observation of a Model with all that the proxy reads of one."""
    config = {"parallel": 2, "servedModelName": "x"}
    observed = with_aliases(model(creation_timestamp="2026-11-24T12:00:00Z", config=config), "alias")
    return plain(events.ModelObserved(model=observed))


EVENTS = [
    whole(ready),
    whole(scaled_to_zero),
    plain(events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=9)),
    plain(events.EngineReady(namespace="default", name="llama", uid="uid-llama")),
]


@st.composite
def odd_events(draw: st.DrawFn) -> bytes:
    """Draw an event with a few parts replaced."""
    value = draw(st.sampled_from(EVENTS))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(places(value)))
        value = put(value, at, draw(ODD))
        if not isinstance(value, dict):
            break
    return json.dumps(value).encode()


@FEW
@given(st.lists(odd_events(), max_size=3))
def test_models_with_any_values_are_listed_answered_and_cost_no_other_anything(bodies: list[bytes]) -> None:
    """A request of such a Model is served or answered with an error; within a day, whatever it says."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready("other", uid="uid-other"))
        for body in bodies:
            try:
                event = decode(body)
            except UndecodableError:
                continue
            await parts.observe(event)
        assert b'"id":"other"' in openai.listing(parts.gateway.models, "default")
        requests = [send(parts, model.key) for model in parts.gateway.models]
        async with asyncio.timeout(2 * DAY):
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, str | RequestError), outcome
            assert isinstance(outcome, str) or outcome.body()
        assert await parts.send(parts.request("other")) == ADDRESS
        for event in parts.bus.published:
            assert decode(encode(event)) is not None
        await settle()

    with_parts(main)


async def send(parts: Parts, key: str) -> str:
    """Send a request for a Model, by its key."""

    async def engine(address: str) -> str:
        return address

    body = json.dumps({"model": key}).encode()
    return await parts.gateway.forward(parts.gateway.resolve("/v1/x", "proxy", body), engine)
