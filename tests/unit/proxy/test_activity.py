"""Activity: published when traffic leaves or reaches zero, and with heartbeats."""

import asyncio

from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.proxy.activity import HEARTBEAT_SECONDS, MIN_INTERVAL_SECONDS
from tests.unit.proxy.parts import Parts, draining, failed, ready, scaled_to_zero, settle, with_parts


def counts(parts: Parts) -> list[tuple[int, int]]:
    """Return what was published of requests in flight and queued."""
    return [(a.in_flight, a.waiting) for a in parts.published(events.ActivityObserved)]


async def shortly(address: str) -> str:
    """Respond after a moment."""
    await asyncio.sleep(0.05)
    return address


async def never(_address: str) -> str:
    """Never respond."""
    return await asyncio.Future()


def test_activity_is_published_when_traffic_leaves_zero_and_when_it_reaches_zero() -> None:
    """In flight and queued count alike; what lies between is not published."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        first, second = parts.send(), parts.send()
        await settle()
        assert counts(parts) == [(0, 2)]
        await asyncio.sleep(2)
        first.cancel()
        await settle()
        assert counts(parts) == [(0, 2)]
        second.cancel()
        await settle()
        assert counts(parts) == [(0, 2), (0, 0)]
        [_, last] = parts.published(events.ActivityObserved)
        assert (last.proxy, last.namespace, last.name, last.uid) == (
            "proxy-0",
            "default",
            "llama",
            "uid-llama",
        )
        assert last.idle_seconds == 0

    with_parts(main)


def test_what_nats_has_not_stored_is_published_again_after_a_second() -> None:
    """The heartbeat and the activity: the stream for them may not exist yet, and nothing else reports them."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        parts.send()
        await settle()
        assert counts(parts) == [(0, 1)]
        assert len(parts.published(events.ProxyObserved)) == 1
        await asyncio.sleep(MIN_INTERVAL_SECONDS + 0.1)
        assert counts(parts) == [(0, 1), (0, 1)]
        assert len(parts.published(events.ProxyObserved)) == 2
        await asyncio.sleep(HEARTBEAT_SECONDS - MIN_INTERVAL_SECONDS - 0.2)
        assert len(counts(parts)) == 2

    with_parts(main, lost=2)


def test_at_most_one_message_a_second_and_the_last_state_wins() -> None:
    """However many requests begin and end."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        for _ in range(35):
            await parts.send(engine=shortly)
            await asyncio.sleep(0.05)
        await asyncio.sleep(MIN_INTERVAL_SECONDS)
        assert len(counts(parts)) <= 5
        assert counts(parts)[-1] == (0, 0)

    with_parts(main)


def test_activity_is_published_with_every_heartbeat_while_there_are_requests() -> None:
    """And no more once the last word on it is published."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        request = parts.send(engine=never)
        await asyncio.sleep(3 * HEARTBEAT_SECONDS + 0.5)
        assert counts(parts) == [(1, 0)] * 4
        request.cancel()
        await asyncio.sleep(3 * HEARTBEAT_SECONDS)
        assert counts(parts)[4:] == [(0, 0)]
        assert len(parts.published(events.ProxyObserved)) == 7

    with_parts(main)


def test_an_operation_counts_as_a_request_in_flight_until_it_ends() -> None:
    """With every heartbeat, though the request that began it was answered long ago."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        route = parts.request().route
        route.operations = 1
        parts.activity.record(route)
        await asyncio.sleep(2 * HEARTBEAT_SECONDS + 0.5)
        assert counts(parts) == [(1, 0)] * 3
        route.operations = 0
        parts.activity.record(route)
        await asyncio.sleep(2 * HEARTBEAT_SECONDS)
        assert counts(parts)[3:] == [(0, 0)]

    with_parts(main)


def test_the_end_of_a_request_between_heartbeats_is_published_with_its_age() -> None:
    """Idle seconds are those since the last request began or ended."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        long = parts.send(engine=never)
        await asyncio.sleep(2)
        await parts.send()
        await asyncio.sleep(HEARTBEAT_SECONDS - 2)
        await settle()
        assert counts(parts) == [(1, 0), (1, 0)]
        assert parts.published(events.ActivityObserved)[-1].idle_seconds == HEARTBEAT_SECONDS - 2
        long.cancel()

    with_parts(main)


def test_a_model_that_stops_being_ready_has_its_activity_published_at_once() -> None:
    """With and without requests: its engine is stopped only after that."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(), ready("other"))
        request = parts.send(engine=never)
        await settle()
        await parts.observe(draining(), draining("other"))
        published = [(a.name, a.in_flight) for a in parts.published(events.ActivityObserved)]
        assert published == [("llama", 1), ("llama", 1), ("other", 0)]
        request.cancel()

    with_parts(main)


def test_a_model_without_requests_is_as_idle_as_this_proxy_is_old() -> None:
    """A stop asks for its activity: that is no request, and must not look like one."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        await asyncio.sleep(40)
        await parts.observe(draining())
        await settle()
        [activity] = parts.published(events.ActivityObserved)
        assert activity.idle_seconds >= 40

    with_parts(main)


def test_the_time_of_the_last_request_survives_a_quiet_time() -> None:
    """Traffic that was published and forgotten still has its age when the Model stops."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        await parts.send(engine=shortly)
        await asyncio.sleep(30)
        await parts.observe(draining())
        await settle()
        assert 29 <= parts.published(events.ActivityObserved)[-1].idle_seconds <= 31

    with_parts(main)


def test_a_rejected_request_is_no_activity() -> None:
    """A Model that no request can start is not kept from anything by requests."""

    async def main(parts: Parts) -> None:
        await parts.observe(failed("Accepted", Reason.INVALID_CONFIG, "set spec.gpu"))
        request = parts.send()
        await asyncio.sleep(2 * HEARTBEAT_SECONDS)
        assert request.exception() is not None
        assert counts(parts) == []

    with_parts(main)


def test_the_last_message_says_that_the_proxy_has_ended() -> None:
    """Its silence is then no failure."""

    async def main(parts: Parts) -> None:
        await parts.activity.shut_down()
        assert [p.final for p in parts.published(events.ProxyObserved)] == [False, True]

    with_parts(main)


def test_activity_says_which_state_of_the_model_it_was_published_under() -> None:
    """What a proxy says of requests before it has seen a stop proves nothing about those that it still sends."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(version=5), ready("other", version=12))
        await parts.send(engine=shortly)
        await asyncio.sleep(MIN_INTERVAL_SECONDS)
        await parts.observe(draining(version=20))
        assert [a.version for a in parts.published(events.ActivityObserved)] == [5, 5, 20]

    with_parts(main)


def test_a_stop_is_answered_by_every_proxy_that_sees_it_at_each_of_its_states() -> None:
    """Also by one that never saw the engine ready, and again when the Model changes meanwhile."""

    async def main(parts: Parts) -> None:
        await parts.replay(draining(version=3))
        await settle()
        await parts.observe(draining(version=4))
        published = [(a.version, a.in_flight) for a in parts.published(events.ActivityObserved)]
        assert published == [(3, 0), (4, 0)]

    with_parts(main)


def test_a_heartbeat_says_up_to_which_version_the_proxy_has_observed() -> None:
    """0 before it has read anything."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(version=5), ready("other", version=12))
        await asyncio.sleep(HEARTBEAT_SECONDS)
        assert [p.version for p in parts.published(events.ProxyObserved)] == [0, 12]

    with_parts(main)


def test_a_model_that_was_taken_for_deleted_is_reported_again() -> None:
    """A stream that lost its messages and was filled again: the Model is the same, its route another."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        request = parts.send()
        await settle()
        request.cancel()
        await asyncio.sleep(2 * MIN_INTERVAL_SECONDS)
        await parts.replay()
        await parts.replay(scaled_to_zero())
        parts.send()
        await asyncio.sleep(HEARTBEAT_SECONDS + 1)
        assert counts(parts)[-1] == (0, 1)

    with_parts(main)


def test_a_request_in_flight_counts_on_after_its_model_was_taken_for_deleted() -> None:
    """Else its engine could be stopped as drained."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        request = parts.send(engine=never)
        await settle()
        await parts.replay()
        await parts.replay(ready(version=9))
        await asyncio.sleep(HEARTBEAT_SECONDS + 1)
        assert counts(parts)[-1] == (1, 0)
        request.cancel()
        await asyncio.sleep(MIN_INTERVAL_SECONDS)
        assert counts(parts)[-1] == (0, 0)

    with_parts(main)
