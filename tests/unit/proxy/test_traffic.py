"""Traffic: each request is counted once, whatever becomes of it, and only for a Model that exists."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.proxy import errors
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.gateway import ProxiedRequest
from flexinfer.proxy.http import application
from flexinfer.proxy.metrics import samples
from flexinfer.proxy.traffic import CLIENT_LEFT, CLOSED, REFUSED, Traffic
from flexinfer.runtime.exposition import pieces
from tests.exposition import Scrape, read
from tests.unit.proxy.parts import (
    ADDRESS,
    Parts,
    ProxyServer,
    deleted,
    ready,
    scaled_to_zero,
    settle,
    with_parts,
)
from tests.unit.proxy.test_connections import PlainEngine, end, racing, serving
from tests.unit.proxy.test_http import PATH

NAMES = ("llama", "qwen")
ENDINGS = ("answered", "stream", "failed", "defect", "cut off", "client left", "refused once", "slow")
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*ENDINGS, *ENDINGS, "ready", "stop", "delete", "wait", "leave"]),
        st.sampled_from(NAMES),
    ),
    max_size=40,
)


def scrape_of(parts: Parts) -> Scrape:
    """Return what a scraper reads of the proxy."""
    return read("".join(pieces(samples(parts.view.routes(), {}))))


class Clients:
    """Clients of a proxy: each request ends as its kind says, and is counted here as well, per Traffic."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.requests: list[tuple[Traffic, asyncio.Task[str]]] = []
        self.version = 1

    def send(self, name: str, ending: str) -> None:
        """Send a request, if its Model exists."""
        try:
            request = self.parts.request(name)
        except RequestError:
            return
        task = self.parts.send(request, partial(self._engine, request, ending, [0]))
        assert request.route.traffic is request.passage.traffic
        self.requests.append((request.passage.traffic, task))

    async def _engine(self, request: ProxiedRequest, ending: str, attempts: list[int], _address: str) -> str:
        attempts[0] += 1
        if ending == "refused once" and attempts[0] == 1:
            raise ConnectError
        if ending == "failed":
            raise errors.no_response(request.route.model, "the connection ended")
        if ending == "defect":
            raise ValueError
        request.passage.answer(200, is_stream=ending in ("stream", "slow"))
        await asyncio.sleep(3.0 if ending == "slow" else 0.1)
        if request.passage.awaits_token:
            request.passage.first_token()
        if ending in ("cut off", "client left"):
            request.passage.cut_off(by_client=ending == "client left")
        return ending

    async def observe(self, step: str, name: str) -> None:
        """Change a Model; qwen is created again now and then."""
        self.version += 1
        uid = f"uid-{self.version // 10}" if name == "qwen" else "uid-llama"
        make = scaled_to_zero if step == "stop" else ready
        model = make(
            name,
            version=self.version,
            uid=uid,
            config={"parallel": 1},
            serverless={"cold_start_timeout": "5s"},
        )
        await self.parts.observe(deleted(model, self.version) if step == "delete" else model)

    def check(self) -> None:
        """Raise AssertionError unless every request is counted as often as it has begun and ended."""
        for traffic in {id(t): t for t, _ in self.requests}.values():
            tasks = [task for of, task in self.requests if of is traffic]
            ended = sum(task.done() for task in tasks)
            assert traffic.open == len(tasks) - ended
            assert sum(traffic.codes.values()) == traffic.durations.count == ended
            assert traffic.first_tokens.count <= len(tasks)
            assert all(waits.count <= ended for waits in (traffic.cold_start_waits, traffic.slot_waits))
            assert traffic.cold_starts <= len(tasks)
        for route in self.parts.view.routes():
            traffic = route.traffic or Traffic()
            assert route.in_flight + route.breaker.queued <= traffic.open
        scrape = scrape_of(self.parts)
        assert scrape.values("model") <= {model.metadata.name for model in self.parts.gateway.models}


@given(STEPS)
def test_whatever_happens_each_request_is_counted_once(steps: list[tuple[str, str]]) -> None:
    """As open from its arrival to its end, then by its status and in each histogram that it belongs to; no Model that does not exist has a series."""

    async def main(parts: Parts) -> None:
        clients = Clients(parts)
        for step, name in steps:
            if step in ENDINGS:
                clients.send(name, step)
            elif step == "wait":
                await asyncio.sleep(2)
            elif step == "leave":
                for _, task in clients.requests[-1:]:
                    task.cancel()
            else:
                await clients.observe(step, name)
            await settle()
            clients.check()
        await asyncio.gather(*(task for _, task in clients.requests), return_exceptions=True)
        clients.check()
        assert not any(traffic.open for traffic, _ in clients.requests)

    with_parts(main)


def traffic_of(parts: Parts, name: str = "llama") -> Traffic:
    """Return the traffic of a Model that had a request."""
    traffic = parts.request(name).route.traffic
    assert traffic is not None
    return traffic


def test_a_cold_start_counts_once_for_all_who_wait_for_it_and_each_has_its_own_wait() -> None:
    """From the moment at which it was queued; the next cold start counts again."""

    async def main(parts: Parts) -> None:
        for version, starts in ((1, 1), (3, 2)):
            await parts.observe(scaled_to_zero(version=version))
            first = parts.send()
            await asyncio.sleep(3)
            second = parts.send()
            await asyncio.sleep(4)
            traffic = traffic_of(parts)
            assert (traffic.cold_starts, traffic.cold_start_waits.count) == (starts, 2 * starts - 2)
            await parts.observe(ready(version=version + 1))
            assert [await first, await second] == [ADDRESS, ADDRESS]
            assert traffic.cold_starts == starts
            assert traffic.cold_start_waits.sum == pytest.approx(11 * starts, abs=0.01)
        assert traffic.slot_waits.count == 0
        assert traffic.codes == {200: 4}

    with_parts(main)


def test_a_wait_behind_others_is_no_cold_start() -> None:
    """And a request that waits for nothing has no wait, not one of 0 s."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(config={"parallel": 1}))
        first = parts.send(engine=after(5.0))
        await settle()
        second = parts.send(engine=after(1.0))
        await settle()
        scrape = scrape_of(parts)
        of = {"model_namespace": "default", "model": "llama"}
        assert scrape.value("flexinfer_requests_in_flight", **of) == 1
        assert scrape.value("flexinfer_requests_queued", **of) == 1
        await asyncio.gather(first, second)
        traffic = traffic_of(parts)
        assert traffic.slot_waits.count == 1
        assert traffic.slot_waits.sum == pytest.approx(5, abs=0.01)
        assert (traffic.cold_starts, traffic.cold_start_waits.count) == (0, 0)
        assert traffic.durations.sum == pytest.approx(11, abs=0.01)

    with_parts(main)


def test_a_request_that_waits_for_both_in_turns_has_one_wait_of_each() -> None:
    """Its engine is stopped before its turn comes, and started once more."""

    async def main(parts: Parts) -> None:
        one: dict[str, Any] = {"config": {"parallel": 1}}
        await parts.observe(scaled_to_zero(**one))
        first = parts.send(engine=after(5.0))
        await settle()
        second = parts.send()
        await asyncio.sleep(3)
        await parts.observe(ready(version=2, **one))
        await asyncio.sleep(2)
        await parts.observe(scaled_to_zero(version=3, **one))
        await asyncio.sleep(4)
        await parts.observe(ready(version=4, **one))
        assert [await first, await second] == [ADDRESS, ADDRESS]
        traffic = traffic_of(parts)
        waits, slots, starts = traffic.cold_start_waits, traffic.slot_waits, traffic.cold_starts
        assert (waits.count, slots.count, starts) == (2, 1, 2)
        assert waits.sum == pytest.approx(3 + (3 + 4), abs=0.01)
        assert slots.sum == pytest.approx(2, abs=0.01)

    with_parts(main)


def after(seconds: float) -> Callable[[str], Awaitable[str]]:
    """Return an engine that answers after some seconds."""

    async def respond(address: str) -> str:
        await asyncio.sleep(seconds)
        return address

    return respond


def test_an_error_counts_with_its_own_status_and_a_client_that_leaves_as_one() -> None:
    """Whether it was queued or in flight."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero(serverless={"cold_start_timeout": "5s"}))
        late = parts.send()
        await asyncio.sleep(6)
        queued = parts.send()
        await settle()
        queued.cancel()
        await settle()
        assert isinstance(late.exception(), RequestError)
        traffic = traffic_of(parts)
        assert traffic.codes == {503: 1, CLIENT_LEFT: 1}
        assert traffic.cold_starts == 2
        assert traffic.cold_start_waits.count == 2

    with_parts(main)


def test_an_engine_that_refuses_a_connection_counts_as_a_retry_when_it_is_asked_again() -> None:
    """Not the last time, after which it is not."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(serverless={"cold_start_timeout": "2s"}))
        attempts = 0

        async def refuse(_address: str) -> str:
            nonlocal attempts
            attempts += 1
            raise ConnectError

        with pytest.raises(RequestError, match=r"refused the connection \(\d+ attempts\)"):
            await parts.send(engine=refuse)
        assert attempts > 1
        assert traffic_of(parts).retries[REFUSED] == attempts - 1
        assert traffic_of(parts).codes == {502: 1}

    with_parts(main)


async def test_a_request_that_an_idle_connection_was_closed_under_is_a_retry_and_one_request() -> None:
    """It reaches the engine on a new connection."""
    async with serving(PlainEngine()) as engine, racing(engine, end) as session:
        parts = Parts()
        follow = asyncio.create_task(parts.view.follow())
        await parts.replay()
        await parts.observe(ready(address=engine.address))
        async with TestClient(ProxyServer(application(parts.gateway, session, ""))) as client:
            for _ in range(2):
                assert (await client.post(PATH, data=b"{}")).status == 200
        traffic = traffic_of(parts)
        assert (traffic.retries[CLOSED], traffic.codes, traffic.open) == (1, {200: 2}, 0)
        follow.cancel()


def test_a_deleted_model_has_no_series_and_a_later_one_of_its_name_begins_at_0() -> None:
    """Also while a request of the deleted one is still in flight."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        of = {"model_namespace": "default", "model": "llama"}
        slow = parts.send(engine=after(5.0))
        assert await parts.send() == ADDRESS
        assert scrape_of(parts).value("flexinfer_requests_total", **of, code="200") == 1
        await parts.observe(deleted(ready()))
        assert scrape_of(parts).series == {}
        await parts.observe(ready(version=20, uid="another"))
        assert scrape_of(parts).value("flexinfer_requests_total", **of, code="200") == 0
        await slow
        assert await parts.send() == ADDRESS
        assert scrape_of(parts).value("flexinfer_requests_total", **of, code="200") == 1

    with_parts(main)


def test_a_model_without_a_request_has_what_grows_with_the_first_one_at_0() -> None:
    """Else the first request and its cold start would be seen by no rate and no increase; it has no histograms."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        scrape = scrape_of(parts)
        assert {name for name, _ in scrape.series} == {
            "flexinfer_requests_total",
            "flexinfer_cold_starts_requested_total",
            "flexinfer_requests_in_flight",
            "flexinfer_requests_queued",
        }
        assert set(scrape.series.values()) == {0}

    with_parts(main)


def test_requests_that_are_counted_while_the_metrics_are_read_break_nothing() -> None:
    """A reader of many Models lets requests continue in between."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        await parts.send()
        unrouted = {"invalid_http": 1}
        text = []
        for number, piece in enumerate(pieces(samples(parts.view.routes(), unrouted))):
            traffic_of(parts).errors[f"error_{number}"] += 1
            traffic_of(parts).codes[400 + number] = unrouted[f"error_{number}"] = 1
            text.append(piece)
        read("".join(text))

    with_parts(main)


def test_a_status_that_http_does_not_define_is_counted_by_its_class() -> None:
    """An engine may send any number."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        await parts.send()
        traffic_of(parts).codes |= dict.fromkeys(range(200, 1000), 1)
        codes = scrape_of(parts).values("code")
        assert {"200", "404", "499", "503", "5xx", "9xx"} <= codes
        assert len(codes) < 75

    with_parts(main)
