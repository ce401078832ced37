"""The proxy's metrics as a scraper reads them on its health port, after requests on real sockets before a scripted engine."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from flexinfer.events import events
from flexinfer.runtime.health import Health, served
from flexinfer.runtime.readiness import Readiness
from tests.exposition import Scrape, read
from tests.integration.test_proxy import (
    CHAT,
    RunningProxy,
    a_running_proxy,
    an_engine,
    hello,
    ready,
    scaled_to_zero,
)
from tests.patience import patient

pytestmark = pytest.mark.integration
LLAMA = {"model_namespace": "default", "model": "llama"}
NO_MODEL = {"model_namespace": "", "model": ""}
REQUESTS, ERRORS = "flexinfer_requests_total", "flexinfer_request_errors_total"
FIRST_TOKENS = "flexinfer_time_to_first_token_seconds_count"
DURATIONS = "flexinfer_request_duration_seconds_count"
IN_FLIGHT, QUEUED = "flexinfer_requests_in_flight", "flexinfer_requests_queued"


class MeasuredProxy:
    """A running proxy, and its metrics."""

    def __init__(self, running: RunningProxy, port: int) -> None:
        self.running = running
        self._metrics = f"http://127.0.0.1:{port}/metrics"

    async def scrape(self) -> Scrape:
        """Read the metrics."""
        async with aiohttp.ClientSession() as session, session.get(self._metrics) as answer:
            assert answer.status == 200
            return read(await answer.text())

    async def until(self, condition: Callable[[Scrape], bool]) -> Scrape:
        """Return the first metrics of which a condition is true."""
        async with asyncio.timeout(patient(10)):
            while not condition(scrape := await self.scrape()):
                await asyncio.sleep(0.01)
            return scrape


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[MeasuredProxy]:
    """Run the proxy with its health port."""
    readiness = Readiness("proxy", asyncio.get_running_loop().time)
    async with (
        served(Health("build", [readiness]), "127.0.0.1", 0) as port,
        a_running_proxy(tmp_path, expose=readiness.expose) as running,
    ):
        yield MeasuredProxy(running, port)


async def stream(request: web.Request) -> web.StreamResponse:
    """Answer with a stream of two events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"choices": []}\n\n')
    await response.write(b"data: [DONE]\n\n")
    return response


async def half_a_stream(request: web.Request) -> web.StreamResponse:
    """Begin a stream, and die."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"choices": []}\n\n')
    assert request.transport is not None
    request.transport.abort()
    return response


class Endless:
    """An engine that sends an event of a stream, and nothing more."""

    def __init__(self, event: bytes = b'data: {"choices": []}\n\n') -> None:
        self._event = event
        self.begun = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(self._event)
        self.begun.set()
        await asyncio.Event().wait()
        return response


def has_answered(count: int) -> Callable[[Scrape], bool]:
    """Return the condition that so many requests have ended well."""
    return lambda scrape: scrape.value(REQUESTS, **LLAMA, code="200") == count


async def test_a_stream_has_a_first_token_and_another_answer_has_none(proxy: MeasuredProxy) -> None:
    """Both have a status and a duration."""
    for handler, tokens, total in ((hello, 0, 1), (stream, 1, 2)):
        async with an_engine(handler) as address:
            proxy.running.observe(ready(address, version=2 + total))
            async with proxy.running.post() as answer:
                assert answer.status == 200
                await answer.read()
            scrape = await proxy.until(has_answered(total))
        assert scrape.value(DURATIONS, **LLAMA) == total
        assert scrape.value(FIRST_TOKENS, **LLAMA) == tokens
        assert scrape.value(IN_FLIGHT, **LLAMA) == 0
    assert scrape.values("code") == {"200"}


async def test_a_cold_start_is_seen_while_requests_wait_and_afterwards(proxy: MeasuredProxy) -> None:
    """Asked for once, and waited for by each."""
    proxy.running.observe(scaled_to_zero())
    async with an_engine(hello) as address:
        posts = [asyncio.create_task(proxy.running.post().__aenter__()) for _ in range(2)]
        scrape = await proxy.until(lambda s: s.value(QUEUED, **LLAMA) == 2)
        assert scrape.value("flexinfer_cold_starts_requested_total", **LLAMA) == 1
        assert scrape.value("flexinfer_cold_start_wait_seconds_count", **LLAMA) == 0
        proxy.running.observe(ready(address))
        for answer in await asyncio.gather(*posts):
            assert answer.status == 200
            await answer.read()
        scrape = await proxy.until(lambda s: s.value(REQUESTS, **LLAMA, code="200") == 2)
    assert scrape.value(QUEUED, **LLAMA) == 0
    assert scrape.value("flexinfer_cold_start_wait_seconds_count", **LLAMA) == 2
    assert scrape.value("flexinfer_cold_starts_requested_total", **LLAMA) == 1


async def test_a_cold_start_past_its_deadline_is_a_503_with_its_code(proxy: MeasuredProxy) -> None:
    """As the client reads it."""
    proxy.running.observe(scaled_to_zero(serverless={"cold_start_timeout": "100ms"}))
    async with proxy.running.post() as answer:
        assert answer.status == 503
    scrape = await proxy.scrape()
    assert scrape.value(REQUESTS, **LLAMA, code="503") == 1
    assert scrape.value(ERRORS, **LLAMA, error="cold_start_timeout") == 1


async def test_a_client_that_leaves_is_a_499_also_in_the_middle_of_a_stream(proxy: MeasuredProxy) -> None:
    """It is no error of the proxy's; the stream had its first token."""
    engine = Endless()
    async with an_engine(engine.answer) as address:
        proxy.running.observe(ready(address))
        answer = await proxy.running.post().__aenter__()
        await engine.begun.wait()
        await answer.content.readany()
        assert (await proxy.scrape()).value(IN_FLIGHT, **LLAMA) == 1
        answer.close()
        scrape = await proxy.until(lambda s: s.value(REQUESTS, **LLAMA, code="499") == 1)
        assert scrape.value(FIRST_TOKENS, **LLAMA) == 1
        proxy.running.observe(scaled_to_zero(version=3))
        queued = asyncio.create_task(proxy.running.post().__aenter__())
        await proxy.until(lambda s: s.value(QUEUED, **LLAMA) == 1)
        queued.cancel()
        scrape = await proxy.until(lambda s: s.value(REQUESTS, **LLAMA, code="499") == 2)
    assert scrape.value(IN_FLIGHT, **LLAMA) == scrape.value(QUEUED, **LLAMA) == 0
    assert scrape.values("error") == set()
    assert scrape.values("code") == {"499", "200"}
    assert scrape.value(REQUESTS, **LLAMA, code="200") == 0


async def test_a_client_that_leaves_after_the_last_event_has_its_whole_answer(proxy: MeasuredProxy) -> None:
    """Many do not wait for the end of the response in HTTP."""
    engine = Endless(b"data: [DONE]\n\n")
    async with an_engine(engine.answer) as address:
        proxy.running.observe(ready(address))
        answer = await proxy.running.post().__aenter__()
        assert await answer.content.readany() == b"data: [DONE]\n\n"
        answer.close()
        scrape = await proxy.until(has_answered(1))
    assert scrape.values("code") == {"200"}


async def test_a_stream_that_its_engine_cuts_off_is_a_502(proxy: MeasuredProxy) -> None:
    """Though its status was sent as 200."""
    async with an_engine(half_a_stream) as address:
        proxy.running.observe(ready(address))
        async with proxy.running.post() as answer:
            assert answer.status == 200
            with contextlib.suppress(aiohttp.ClientError):
                await answer.read()
        scrape = await proxy.until(lambda s: s.value(REQUESTS, **LLAMA, code="502") == 1)
    assert scrape.value(ERRORS, **LLAMA, error="upstream_disconnected") == 1
    assert scrape.value(REQUESTS, **LLAMA, code="200") == 0


async def test_nothing_that_a_client_sends_becomes_a_label(proxy: MeasuredProxy) -> None:
    """An unknown model, a wrong key, a path and what is no HTTP are errors without a Model."""
    proxy.running.observe(scaled_to_zero())
    for body in (CHAT | {"model": "secret"}, b"secret"):
        async with proxy.running.post(body):
            pass
    async with proxy.running.post(path="/model/default/secret/v1/chat/completions"):
        pass
    async with proxy.running.session.post(f"{proxy.running.base}/secret", data=io.BytesIO(b"{}")) as answer:
        assert answer.status == 401
    host, _, port = proxy.running.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"secret\r\n\r\n")
    await reader.read()
    writer.close()
    scrape = await proxy.until(lambda s: s.value(ERRORS, **NO_MODEL, error="invalid_http") == 1)
    assert scrape.value(ERRORS, **NO_MODEL, error="model_not_found") == 2
    assert scrape.value(ERRORS, **NO_MODEL, error="invalid_json") == 1
    assert scrape.value(ERRORS, **NO_MODEL, error="invalid_api_key") == 1
    assert (scrape.values("model"), scrape.values("model_namespace")) == ({"", "llama"}, {"", "default"})
    assert "secret" not in str(scrape)


async def test_a_deleted_model_has_no_series_any_more(proxy: MeasuredProxy) -> None:
    """A request of it that was queued has ended in a 404."""
    proxy.running.observe(scaled_to_zero())
    post = asyncio.create_task(proxy.running.post().__aenter__())
    await proxy.until(lambda s: s.value(QUEUED, **LLAMA) == 1)
    proxy.running.deliver(events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=9))
    answer = await post
    assert answer.status == 404
    scrape = await proxy.scrape()
    assert scrape.values("model") == set()


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/model/default/llama/metrics"])
async def test_the_address_of_the_proxy_serves_no_metrics(proxy: MeasuredProxy, path: str) -> None:
    """They name Models of all tenants: not without the key, and not with it."""
    async with an_engine(hello) as address:
        proxy.running.observe(ready(address))
        async with proxy.running.post() as answer:
            assert answer.status == 200
        for headers, status in (({}, 401), ({"Authorization": "Bearer secret"}, 404)):
            async with proxy.running.session.get(f"{proxy.running.base}{path}", headers=headers) as answer:
                assert answer.status == status
                assert "flexinfer_" not in await answer.text()
