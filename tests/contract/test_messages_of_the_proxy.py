"""The catalogue of the proxy's errors: every one is rendered, with the worst that may be quoted in it, as a client reads it."""

import asyncio
import contextlib
import errno
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import aiohttp
import pytest

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.proxy import (
    breaker,
    engine,
    errors,
    forms,
    headers,
    http,
    keys,
    openai,
    operations,
    paths,
    routing,
    server,
)
from flexinfer.proxy.connections import ClosedError
from flexinfer.proxy.errors import RequestError
from tests.builders import a_model, all_true
from tests.contract.wording import QUOTED, glued, not_rendered, public
from tests.unit.launcher.deciding import with_messages

MODULES = (errors, breaker, engine, forms, headers, http, keys, openai, paths, routing, server)
FORM = "multipart/form-data; boundary=x"
_REMEDY = re.compile("; (send|retry|ask|set|its backend|backends|available|leave|its log)")
NOT_SHOWN = (
    " \\t",
    "a response has begun already",
    "Too many headers",
    "{address!r} is no",
    "it ended a stream",
)
_FREE = frozenset({"model_deleted", "response_cut", "not_passed_on", "model_failed"})
"""Errors that no client can fix; the last quotes a condition, which has the remedy."""


def models(quoted: str) -> Iterator[Model]:
    """Yield a Model in each state that an error tells."""
    yield a_model(conditions=all_true(("Wanted", "False", Reason.IDLE), ("Ready", "False", Reason.STOPPED)))
    yield a_model(
        conditions=all_true(("Ready", "False", Reason.LOADING), ("Accepted", "False", Reason.INVALID_SPEC))
    )
    loading = a_model(conditions=all_true(("Ready", "False", Reason.LOADING)))
    yield with_messages(loading, Ready=f"engine stopped responding ({conditions.clause(quoted)})")
    yield a_model(conditions=("Accepted",))
    yield a_model()


def of_forms() -> Iterator[RequestError]:
    """Yield what is wrong with a form."""
    part = b"--x\r\nContent-Disposition: form-data; name=model\r\n\r\n%s\r\n"
    for body, content_type in (
        (b"", "multipart/form-data"),
        (part % b"a" * 2 + b"--x--", FORM),
        (part % (b"a" * 2000) + b"--x--", FORM),
        (part % b"\xff" + b"--x--", FORM),
        (b"--x\r\nnothing", FORM),
        (b"--x\r\n\r\n\r\n\r\n" * 200 + b"--x--", FORM),
        (part % b"a", FORM),
    ):
        with pytest.raises(RequestError) as caught:
            forms.model_field(body, content_type)
        yield caught.value


def of_paths_and_headers() -> Iterator[RequestError]:
    """Yield what is wrong with a path or a header."""
    for path in ("/v1/%ff", "/v1/%00", "/v1/%2e%2e/slots", "/v1/."):
        with pytest.raises(RequestError) as caught:
            paths.normalise(path)
        yield caught.value
    with pytest.raises(RequestError) as caught:
        headers.to_engine({"Accept": "\udcff"})
    yield caught.value
    yield errors.invalid_header("Expect", "is not 100-continue; leave it out", 417)
    yield errors.invalid_http("its method is none of HTTP")
    yield errors.invalid_http("its first line, a header or the framing of its body is malformed")


def engine_causes() -> list[str]:
    """Return why an engine did not respond, for each kind of failure."""
    info: Any = None
    refused = OSError(errno.ECONNRESET, "reset")
    closed = ClosedError()
    closed.__cause__ = refused
    kinds = (
        aiohttp.ServerDisconnectedError(),
        refused,
        aiohttp.ClientResponseError(info, ()),
        closed,
        OSError(),
    )
    return [engine.cause_of(error) for error in kinds]


def of_bodies() -> Iterator[RequestError]:
    """Yield what is wrong with JSON."""
    for body in (b"", b"[]", b'{"model": 1}', b"{", b"\xff", b'{"model": "a", "stream": 7}'):
        with pytest.raises(RequestError) as caught:
            openai.read(body)
        yield caught.value


ERRORS: Mapping[str, Callable[[Model, str], list[RequestError]]] = {
    "invalid_api_key": lambda *_: [errors.invalid_api_key()],
    "invalid_body": lambda *_: list(of_bodies()),
    "invalid_form": lambda *_: list(of_forms()),
    "invalid_header": lambda *_: list(of_paths_and_headers()),
    "invalid_path": lambda *_: [],
    "invalid_http": lambda *_: [],
    "head_too_large": lambda *_: [
        errors.head_too_large("a header", 8190),
        errors.head_too_large(errors.REQUEST_LINE, 8190),
    ],
    "too_many_headers": lambda *_: [errors.too_many_headers(128)],
    "method_not_served": lambda *_: [
        errors.method_not_served("PUT", "/v1/models", methods)
        for methods in (("POST",), ("GET", "HEAD", "POST"))
    ],
    "path_not_served": lambda model, _: [
        errors.path_not_served("POST", "/v1/x", one, routing.served_paths(one)) for one in (None, model)
    ],
    "model_missing": lambda *_: [errors.model_missing(method, "/v1/chat") for method in ("GET", "POST")],
    "body_too_large": lambda *_: [errors.body_too_large(64 << 20)],
    "body_too_slow": lambda *_: [errors.body_too_slow(seconds) for seconds in (1.0, 30.0)],
    "model_ambiguous": lambda *_: [errors.model_ambiguous("gpt", ("a", "b"))],
    "model_not_found": lambda *_: [
        errors.model_not_found("gpt", names) for names in ((), ("a",), ("a", "b"))
    ],
    "models_not_read": lambda *_: [errors.models_not_read()],
    "model_deleted": lambda model, _: [errors.model_deleted(model)],
    "model_failed": lambda model, quoted: [
        errors.model_failed(model, one)
        for one in with_messages(model, Ready=f"Pod rejected: {conditions.clause(quoted)}").status.conditions
        if one.status == conditions.FALSE
    ],
    "nats_unavailable": lambda model, _: [errors.nats_unavailable(model)],
    "queue_full": lambda model, _: [errors.queue_full(model, limit) for limit in full()],
    "not_ready_in_time": lambda model, _: [
        errors.not_ready_in_time(model, seconds) for seconds in (1.0, 600.0)
    ],
    "no_slot_in_time": lambda model, _: [
        errors.no_slot_in_time(model, 600.0, number) for number in (0, 1, 4)
    ],
    "internal": lambda *_: [errors.internal()],
    "connections_refused": lambda model, _: [errors.connections_refused(model, number) for number in (1, 3)],
    "no_response": lambda model, _: [
        errors.no_response(model, cause, retry=retry) for retry in (True, False) for cause in engine_causes()
    ],
    "not_passed_on": lambda model, _: [errors.not_passed_on(model, 302)],
    "response_cut": lambda *_: [errors.response_cut()],
}


def full() -> list[str]:
    """Return what a queue says that holds as much as it may, in bytes and in number."""

    async def fill(most_bytes: int, size: int) -> str:
        queue = breaker.Breaker(most_bytes=most_bytes)
        with contextlib.ExitStack() as requests:
            for _ in range(breaker.MAX_QUEUED + 1):
                requests.enter_context(queue.slot(size))
            raise AssertionError("there is room")

    said = []
    for most_bytes, size in (
        (breaker.MAX_QUEUED_BYTES, breaker.MAX_QUEUED_BYTES),
        (breaker.MAX_QUEUED_BYTES, 0),
    ):
        with pytest.raises(breaker.QueueFullError) as caught:
            asyncio.run(fill(most_bytes, size))
        said.append(str(caught.value))
    return said


def text(error: RequestError) -> str:
    """Return the message of an error as its client reads it."""
    message: str = json.loads(error.body())["error"]["message"]
    return message


def rendered(quoted: str) -> Iterator[tuple[str, RequestError]]:
    """Yield every error with the name of what made it."""
    for model in models(quoted):
        for name, render in ERRORS.items():
            yield from ((name, error) for error in render(model, quoted))


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_error_of_the_proxy_is_whole(quoted: str) -> None:
    """Of a Model in each state, and whatever an engine or a client sends."""
    assert public(errors) == set(ERRORS)
    assert not {wrong for _, error in rendered(quoted) for wrong in glued(text(error))}


def test_no_error_of_the_proxy_is_left_out() -> None:
    """Each text in its modules is in one that was rendered."""
    everything = [text(error) for quoted in QUOTED for _, error in rendered(quoted)]
    assert not_rendered(MODULES, everything, NOT_SHOWN) == []


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_error_of_the_proxy_says_what_helps(quoted: str) -> None:
    """Except one that nothing helps; a state that another quotes has its remedy there."""
    said = [text(error) for name, error in rendered(quoted) if name not in _FREE]
    assert [message for message in said if not _REMEDY.search(message)] == []


def test_the_code_of_an_error_quotes_nothing() -> None:
    """It is a label of a metric: what a client sends may not make another one."""
    codes = [{error.code for _, error in rendered(quoted)} for quoted in QUOTED]
    assert all(of == codes[0] for of in codes)
    assert [code for code in codes[0] if not re.fullmatch("[a-z_]{5,30}", code)] == []


def test_how_an_operation_ends_is_whole_and_says_what_helps() -> None:
    """As a line of history shows it; the message of one that failed is the engine's."""
    ends = [
        outcome.message for outcome in vars(operations).values() if isinstance(outcome, operations.Outcome)
    ]
    ends = [message for message in ends if message]
    assert len(ends) == 3
    assert not {wrong for message in ends for wrong in glued(message)}
    assert [message for message in ends if "; " not in message] == []
    steps = ["prompt p: step 1 of 2 of node 3", "prompt p"]
    assert not_rendered((operations,), [*ends, *steps], ("ws://",)) == []
