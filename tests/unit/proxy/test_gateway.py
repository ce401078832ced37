"""The gateway: queued until the engine is ready, or answered with an error that says why not."""

import asyncio

import msgspec
import pytest

from flexinfer.api.durations import seconds
from flexinfer.api.model import LiteLLM, Model, Serverless
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.proxy.breaker import MAX_QUEUED, MAX_QUEUED_BYTES
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.gateway import MAX_ATTEMPTS, RECONNECT_SECONDS
from flexinfer.proxy.view import OUTAGE_SECONDS
from flexinfer.proxy.wait_limits import Wait
from flexinfer.runtime.runtime import Disconnected
from flexinfer.runtime.settings import Settings
from tests.simulation.loop import run
from tests.unit.proxy.parts import (
    ADDRESS,
    Parts,
    deleted,
    failed,
    ready,
    respond,
    scaled_to_zero,
    settle,
    with_parts,
)


def test_a_proxy_that_has_not_read_the_models_says_so_and_calls_none_missing() -> None:
    """A client gives up at a 404, and tries again after a 503."""

    async def main() -> None:
        parts = Parts()
        follow = asyncio.create_task(parts.view.follow())
        for ask in (parts.request, lambda: parts.gateway.models, lambda: parts.gateway.find("llama")):
            with pytest.raises(RequestError) as raised:
                ask()
            error = raised.value
            assert (error.status, error.code, error.retry_after) == (503, "starting", 5)
        await parts.replay()
        assert parts.gateway.models == []
        with pytest.raises(RequestError) as raised:
            parts.gateway.find("llama")
        assert (raised.value.status, raised.value.code) == (404, "model_not_found")
        follow.cancel()

    run(main())


def test_a_request_to_a_proxy_that_has_just_started_waits_until_the_models_were_read() -> None:
    """For as long as NATS may be away before requests are refused."""

    async def main() -> None:
        parts = Parts()
        follow = asyncio.create_task(parts.view.follow())
        began = parts.clock()
        await parts.gateway.models_read()
        assert parts.clock() - began == pytest.approx(OUTAGE_SECONDS)
        waiting = asyncio.create_task(parts.gateway.models_read())
        await settle()
        assert not waiting.done()
        await parts.replay(ready())
        assert waiting.done()
        await parts.gateway.models_read()
        assert parts.clock() - began == pytest.approx(OUTAGE_SECONDS)
        follow.cancel()

    run(main())


def error_of(task: "asyncio.Task[str]") -> RequestError:
    """Return the error that a request was answered with."""
    error = task.exception()
    assert isinstance(error, RequestError)
    return error


def impatient(model: Model, timeout: str) -> Model:
    """Return a Model with another coldStartTimeout."""
    spec = msgspec.structs.replace(model.spec, serverless=Serverless(cold_start_timeout=timeout))
    return msgspec.structs.replace(model, spec=spec)


def one_at_a_time(model: Model) -> Model:
    """Return a Model whose engine works on one request at a time."""
    spec = msgspec.structs.replace(model.spec, config={"parallel": 1})
    return msgspec.structs.replace(model, spec=spec)


def test_a_request_for_a_ready_model_is_sent_at_once() -> None:
    """To its engine, without a wake."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        assert await parts.send() == ADDRESS
        assert not parts.published(events.WakeRequested)

    with_parts(main)


def test_a_request_for_a_model_scaled_to_zero_publishes_a_wake_once_a_second_while_it_is_queued() -> None:
    """And is sent as soon as the Model is ready."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        requests = [parts.send(), parts.send()]
        for second in range(4):
            await settle()
            assert len(parts.published(events.WakeRequested)) == second + 1
            await asyncio.sleep(1)
        await parts.observe(ready())
        assert await asyncio.gather(*requests) == [ADDRESS, ADDRESS]
        wakes = len(parts.published(events.WakeRequested))
        await asyncio.sleep(5)
        assert len(parts.published(events.WakeRequested)) == wakes

    with_parts(main)


def test_a_second_cold_start_publishes_a_wake_again() -> None:
    """Nothing is left of the first."""

    async def main(parts: Parts) -> None:
        for version in (1, 3):
            await parts.observe(scaled_to_zero(version=version))
            request = parts.send()
            await settle()
            await parts.observe(ready(version=version + 1))
            assert await request == ADDRESS
            await asyncio.sleep(2)
        assert len(parts.published(events.WakeRequested)) == 2

    with_parts(main)


def test_a_cancelled_request_leaves_no_slot_behind() -> None:
    """Whether it is queued or in flight."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        queued = parts.send()
        await settle()
        breaker = parts.request().route.breaker
        assert (breaker.queued, breaker.in_flight) == (1, 0)
        queued.cancel()
        await settle()
        assert (breaker.queued, breaker.in_flight) == (0, 0)
        await parts.observe(ready())
        in_flight = parts.send(engine=lambda _address: asyncio.Future())
        await settle()
        assert (breaker.queued, breaker.in_flight) == (0, 1)
        in_flight.cancel()
        await settle()
        assert (breaker.queued, breaker.in_flight) == (0, 0)

    with_parts(main)


def test_a_request_that_is_cancelled_as_it_is_admitted_leaves_no_slot_behind() -> None:
    """In the same moment, before it could run."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        request = parts.send()
        await settle()
        breaker = parts.request().route.breaker
        breaker.resize(1)
        request.cancel()
        await settle()
        assert (request.cancelled(), breaker.queued, breaker.in_flight) == (True, 0, 0)

    with_parts(main)


def test_a_request_that_is_not_ready_by_its_deadline_is_answered_with_the_condition_that_is_not_true() -> (
    None
):
    """Exactly at coldStartTimeout, and may be retried."""

    async def main(parts: Parts) -> None:
        await parts.observe(impatient(scaled_to_zero(), "7s"))
        began, request = parts.clock(), parts.send()
        await asyncio.wait([request])
        assert parts.clock() - began == pytest.approx(7)
        error = error_of(request)
        assert (error.status, error.code, error.retry_after) == (503, "cold_start_timeout", 5)
        assert error.message == (
            "model llama was not ready within 7s (coldStartTimeout 7s): Wanted=False (Idle); retry in 5s"
        )
        assert not parts.request().route.breaker.busy

    with_parts(main)


@pytest.mark.parametrize("cold_start", ["0s", "2s", "1h"])
def test_a_request_behind_others_of_a_ready_model_waits_as_long_as_the_queue_allows(cold_start: str) -> None:
    """Whatever coldStartTimeout says: it is not the Model that is late. The error names the limit that it is."""

    async def main(parts: Parts) -> None:
        await parts.observe(impatient(ready(), cold_start))
        parts.request().route.breaker.resize(1)
        first = parts.send(engine=lambda _address: asyncio.Future())
        began, second = parts.clock(), parts.send()
        await asyncio.wait([second])
        first.cancel()
        assert parts.clock() - began == pytest.approx(Settings().queue_seconds)
        error = error_of(second)
        assert (error.status, error.code, error.retry_after) == (503, "queue_timeout", 5)
        assert error.message == (
            "model llama is ready, but had no free slot within 600s (FLEXINFER_QUEUE_SECONDS): "
            "1 request in flight; retry in 5s"
        )

    with_parts(main)


def test_a_wait_for_a_slot_is_measured_up_to_the_setting_that_limits_it() -> None:
    """However much longer than the default that is."""

    async def main(parts: Parts) -> None:
        await parts.observe(one_at_a_time(ready()))
        first = parts.send(engine=lambda _address: asyncio.Future())
        second = parts.send()
        await asyncio.wait([second])
        assert error_of(second).code == "queue_timeout"
        traffic = parts.request().route.traffic
        assert traffic is not None
        for histogram in (traffic.slot_waits, traffic.durations):
            assert (histogram.count, histogram.counts[-1]) == (1, 0)
            assert histogram.bounds[-1] > 7200
        first.cancel()

    with_parts(main, settings=Settings(queue_seconds=7200))


def test_a_model_that_becomes_ready_late_and_busy_cuts_no_request_at_its_coldstarttimeout() -> None:
    """From then on the request queues; the time before does not count."""

    async def main(parts: Parts) -> None:
        await parts.observe(impatient(scaled_to_zero(), "10s"))
        hold: asyncio.Future[str] = asyncio.Future()
        first, second = parts.send(engine=lambda _address: hold), parts.send()
        await asyncio.sleep(9)
        await parts.observe(one_at_a_time(impatient(ready(), "10s")))
        await asyncio.sleep(Settings().queue_seconds - 1)
        assert not second.done()
        hold.set_result("served")
        assert (await first, await second) == ("served", ADDRESS)

    with_parts(main)


def test_a_model_that_stops_being_ready_gives_its_queue_a_whole_coldstarttimeout() -> None:
    """However long it had been busy before; and each limit counts all the time that was spent on its wait."""

    async def main(parts: Parts) -> None:
        await parts.observe(one_at_a_time(impatient(ready(), "10s")))
        first = parts.send(engine=lambda _address: asyncio.Future())
        began, second = parts.clock(), parts.send()
        await asyncio.sleep(100)
        await parts.observe(impatient(scaled_to_zero(version=3), "10s"))
        await asyncio.sleep(4)
        await parts.observe(one_at_a_time(impatient(ready(version=4), "10s")))
        await asyncio.sleep(100)
        await parts.observe(impatient(scaled_to_zero(version=5), "10s"))
        await asyncio.wait([second])
        first.cancel()
        assert parts.clock() - began == pytest.approx(210)
        assert error_of(second).message.startswith(
            "model llama was not ready within 10s (coldStartTimeout 10s)"
        )

    with_parts(main)


def test_a_refused_connection_after_a_long_queue_is_tried_again() -> None:
    """The time in the queue is not taken from it."""

    async def main(parts: Parts) -> None:
        await parts.observe(one_at_a_time(impatient(ready(), "5s")))
        hold: asyncio.Future[str] = asyncio.Future()
        first, attempts = parts.send(engine=lambda _address: hold), 0

        async def engine(address: str) -> str:
            nonlocal attempts
            attempts += 1
            return await (refuse if attempts < 3 else respond)(address)

        second = parts.send(engine=engine)
        await asyncio.sleep(60)
        assert parts.gateway.connect_seconds(parts.request()) == 5
        hold.set_result("served")
        assert (await first, await second) == ("served", ADDRESS)

    with_parts(main)


def test_a_full_queue_rejects_the_next_request() -> None:
    """In number and in bytes; with the limit, and to be retried."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero(), scaled_to_zero("other"))
        requests = [parts.send() for _ in range(MAX_QUEUED + 1)]
        large = parts.request("other")
        large = msgspec.structs.replace(large, body=b"x" * (MAX_QUEUED_BYTES + 1))
        too_large = parts.send(large)
        await settle()
        error = error_of(requests[-1])
        assert (error.status, error.code, error.retry_after) == (503, "queue_full", 5)
        assert error.message == "request queue of model llama is full (512 requests); retry in 5s"
        assert "(64 MiB of request bodies)" in error_of(too_large).message
        assert not any(request.done() for request in requests[:-1])
        for request in requests:
            request.cancel()

    with_parts(main)


def test_a_short_outage_of_nats_rejects_no_request() -> None:
    """A restart of nats-server takes a second or two: who waits for a cold start continues waiting."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        await parts.deliver(Disconnected())
        arriving = parts.send()
        await asyncio.sleep(OUTAGE_SECONDS - 1)
        await parts.replay(scaled_to_zero())
        await asyncio.sleep(OUTAGE_SECONDS)
        assert not arriving.done()
        await parts.observe(ready())
        assert await arriving == ADDRESS

    with_parts(main)


def test_while_nats_is_unavailable_a_model_that_is_not_ready_is_rejected() -> None:
    """Those queued already and those that arrive; a ready Model continues serving."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero(), ready("other"))
        queued = parts.send()
        await settle()
        await parts.deliver(Disconnected())
        await asyncio.sleep(OUTAGE_SECONDS)
        arriving = parts.send()
        await settle()
        for request in (queued, arriving):
            error = error_of(request)
            assert (error.status, error.code, error.retry_after) == (503, "nats_unavailable", 5)
            assert error.message == (
                "model llama is scaled to zero and cannot be started: NATS is unavailable; retry in 5s"
            )
        assert await parts.send(parts.request("other")) == ADDRESS
        await parts.replay(scaled_to_zero())
        again = parts.send()
        await parts.observe(ready())
        assert await again == ADDRESS

    with_parts(main)


def test_requests_queued_for_a_model_that_is_deleted_are_answered_at_once() -> None:
    """Also when a Model of the same name takes its place; that one has a queue of its own."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        request = parts.send()
        await settle()
        await parts.observe(deleted(scaled_to_zero()), ready(uid="uid-2", version=10))
        error = error_of(request)
        assert (error.status, error.code) == (404, "model_not_found")
        assert error.message == "model llama was deleted"
        assert await parts.send() == ADDRESS

    with_parts(main)


def test_a_request_whose_model_was_deleted_while_its_engine_was_tried_is_answered() -> None:
    """The next attempt finds no Model."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        request = parts.send(engine=refuse)
        await settle()
        await parts.observe(deleted(ready()))
        await settle()
        assert error_of(request).message == "model llama was deleted"

    with_parts(main)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [("Accepted", Reason.INVALID_CONFIG), ("Cached", Reason.SOURCE_NOT_FOUND)],
)
def test_a_permanent_failure_is_answered_at_once(condition: str, reason: str) -> None:
    """When a request arrives, and when it is queued already; not to be retried."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        queued = parts.send()
        await settle()
        await parts.observe(failed(condition, reason, "set spec.source"))
        arriving = parts.send()
        await settle()
        for request in (queued, arriving):
            error = error_of(request)
            assert (error.status, error.code, error.retry_after) == (503, "model_failed", None)
            assert error.message == (
                f"model llama cannot serve requests: {condition}=False ({reason}): set spec.source"
            )

    with_parts(main)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("Accepted", Reason.INVALID_CONFIG),
        ("Accepted", Reason.UNKNOWN_BACKEND),
        ("Cached", Reason.SOURCE_NOT_FOUND),
    ],
)
def test_a_model_that_serves_the_spec_before_answers_while_the_newer_one_is_refused(
    condition: str, reason: str
) -> None:
    """Ready is True, so requests are served, whatever a newer spec lacks; once the engine is gone, they are refused."""

    async def main(parts: Parts) -> None:
        running = ready(version=4)
        others = [c for c in running.status.conditions if c.type not in {condition, "Ready"}]
        older = msgspec.structs.replace(
            running.condition("Ready") or running.status.conditions[0], reason=Reason.SERVING_OLDER_SPEC
        )
        refusal = failed(condition, reason, "set spec.source").status.conditions
        status = msgspec.structs.replace(running.status, conditions=(*others, *refusal, older))
        await parts.observe(ready())
        await parts.observe(msgspec.structs.replace(running, status=status))
        assert await parts.send() == ADDRESS
        await parts.observe(failed(condition, reason, "set spec.source", version=5))
        request = parts.send()
        await settle()
        assert error_of(request).code == "model_failed"

    with_parts(main)


def test_a_name_that_means_two_models_is_not_said_to_mean_none() -> None:
    """Both are named as a request can name them: an alias of two Models, and a name in two namespaces."""

    async def main(parts: Parts) -> None:
        spec = msgspec.structs.replace(ready("a").spec, litellm=LiteLLM(aliases=("gpt-4",)))
        both = [msgspec.structs.replace(ready(name, uid=name), spec=spec) for name in ("a", "b")]
        far = [ready("far", namespace=namespace, uid=namespace) for namespace in ("one", "two")]
        await parts.observe(*both, *far)
        for name, ids in (("gpt-4", "a, b"), ("far", "one/far, two/far")):
            with pytest.raises(RequestError) as refused:
                parts.gateway.find(name)
            assert (refused.value.status, refused.value.code) == (404, "model_not_found")
            assert refused.value.message == (
                f"model {name!r} means more than one Model: {ids}; send one of these names"
            )

    with_parts(main)


async def refuse(address: str) -> str:
    """Refuse the connection, as an address without an engine does."""
    raise ConnectError(f"{address}: connection refused")


def test_a_refused_connection_is_tried_again_at_the_new_address_at_once() -> None:
    """As soon as the Model says it; the request took nothing with it."""

    async def main(parts: Parts) -> None:
        async def engine(address: str) -> str:
            return await refuse(address) if address == ADDRESS else address

        await parts.observe(ready())
        began, request = parts.clock(), parts.send(engine=engine)
        await settle()
        await parts.observe(ready(address="127.0.0.10:8080", version=3))
        assert await request == "127.0.0.10:8080"
        assert parts.clock() == began

    with_parts(main)


def test_connections_that_are_refused_again_and_again_end_in_a_502() -> None:
    """After a bounded number of attempts, half a second apart."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        began, request = parts.clock(), parts.send(engine=refuse)
        await asyncio.wait([request])
        assert parts.clock() - began == pytest.approx((MAX_ATTEMPTS - 1) * RECONNECT_SECONDS)
        error = error_of(request)
        assert (error.status, error.code, error.retry_after) == (502, "bad_gateway", 5)
        assert error.message == (
            "the engine of model llama refused the connection (20 attempts); retry in 5s"
        )

    with_parts(main)


def test_connections_are_tried_no_longer_than_to_the_deadline() -> None:
    """A short coldStartTimeout is kept."""

    async def main(parts: Parts) -> None:
        await parts.observe(impatient(ready(), "1s"))
        began, request = parts.clock(), parts.send(engine=refuse)
        await asyncio.wait([request])
        assert parts.clock() - began == pytest.approx(1)
        assert error_of(request).code == "bad_gateway"

    with_parts(main)


@pytest.mark.parametrize("timeout", ["0s", "200ms", "700ms", "3s"])
@pytest.mark.parametrize("engine", ["refuses", "refuses and stops", "is not ready"])
def test_every_wait_ends_at_the_deadline_of_the_request(timeout: str, engine: str) -> None:
    """Whatever it is that the request waits for."""

    async def main(parts: Parts) -> None:
        model = scaled_to_zero() if engine == "is not ready" else ready()
        await parts.observe(impatient(model, timeout))
        began, request = parts.clock(), parts.send(engine=refuse)
        if engine == "refuses and stops":
            await settle()
            await parts.observe(impatient(scaled_to_zero(version=7), timeout))
        await asyncio.wait([request])
        assert parts.clock() - began == pytest.approx(seconds(timeout), abs=0.01)
        assert error_of(request).status in {502, 503}
        await asyncio.sleep(1)
        assert not parts.request().route.breaker.busy

    with_parts(main)


@pytest.mark.parametrize("at", ["the queue", "a refused connection", "the engine"])
def test_a_deleted_model_leaves_nothing_behind(at: str) -> None:
    """No slot, no route, no word about its traffic: the subject belongs to the next Model of the name."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero() if at == "the queue" else ready())
        response: asyncio.Future[str] = asyncio.Future()
        request = parts.send(engine=refuse if at == "a refused connection" else lambda _: response)
        await settle()
        breaker = parts.request().route.breaker
        await parts.observe(deleted(ready()))
        parts.bus.published.clear()
        await asyncio.sleep(12)
        assert not parts.published(events.ActivityObserved)
        response.set_result("served")
        await asyncio.wait([request])
        await asyncio.sleep(12)
        assert not breaker.busy
        assert (parts.view._routes, parts.activity._activities, parts.gateway._wakes) == ({}, {}, set())

    with_parts(main)


def test_a_coldstarttimeout_beyond_all_measure_is_a_day() -> None:
    """Nothing waits indefinitely."""

    async def main(parts: Parts) -> None:
        for version, timeout in enumerate(("9" * 400 + "h", "999999999h"), 2):
            await parts.observe(impatient(scaled_to_zero(version=version), timeout))
            assert parts.request().waits.left(Wait.COLD_START) <= 24 * 3600

    with_parts(main)


def test_an_engine_that_refuses_has_its_model_read_at_most_once_a_second() -> None:
    """The state that the proxy holds is wrong, and nothing else may tell it so."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        parts.cluster.reads.clear()
        requests = [parts.send(engine=refuse) for _ in range(10)]
        await asyncio.wait(requests)
        assert len(parts.cluster.reads) == pytest.approx((MAX_ATTEMPTS - 1) * RECONNECT_SECONDS, abs=1)

    with_parts(main)


def test_a_model_restored_from_a_backup_is_served_where_the_api_server_says() -> None:
    """Although its version is lower than the one that the proxy holds, and the stream has not said it yet."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(version=9))
        restored = parts.cluster.models["default/llama"] = ready(address="127.0.0.10:8080", version=5)

        async def engine(address: str) -> str:
            return await (refuse if address == ADDRESS else respond)(address)

        assert await parts.send(engine=engine) == "127.0.0.10:8080"
        assert parts.request().route.model is restored
        await parts.observe(scaled_to_zero(version=6))
        assert not parts.request().route.address

    with_parts(main)


def test_a_model_that_is_gone_from_the_api_server_is_answered_as_deleted() -> None:
    """Although no message said so."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        parts.cluster.models.clear()
        request = parts.send(engine=refuse)
        await asyncio.wait([request])
        assert error_of(request).code == "model_not_found"

    with_parts(main)


def test_what_names_no_model_is_rejected_with_the_models_there_are() -> None:
    """Before anything is queued."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(), ready("other", litellm={"aliases": ["gpt-4o"]}))
        with pytest.raises(RequestError) as unknown:
            parts.gateway.resolve("/v1/completions", "proxy", b'{"model": "x"}')
        assert unknown.value.message == "model 'x' does not exist; available models: gpt-4o, llama, other"
        with pytest.raises(RequestError) as unnamed:
            parts.gateway.resolve("/v1/completions", "proxy", b"{}")
        assert (unnamed.value.status, unnamed.value.param) == (400, "model")

    with_parts(main)


def test_the_engine_gets_the_name_that_it_knows() -> None:
    """Whatever name the client used; the rest of the body stays as it is."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        same = b'{"model": "llama",  "n": 1}'
        assert parts.gateway.resolve("/v1/completions", "proxy", same).body == same
        long = parts.gateway.resolve("/v1/completions", "proxy", b'{"model": "default/llama", "n": 1}')
        assert msgspec.json.decode(long.body) == {"model": "llama", "n": 1}

    with_parts(main)


@pytest.mark.parametrize(("timeout", "connect"), [("60s", 5.0), ("3s", 3.0), ("0s", 0.5)])
def test_a_connection_to_an_engine_takes_no_longer_than_the_request_has(timeout: str, connect: float) -> None:
    """But long enough that one can be made at all."""

    async def main(parts: Parts) -> None:
        await parts.observe(impatient(ready(), timeout))
        assert parts.gateway.connect_seconds(parts.request()) == connect

    with_parts(main)
