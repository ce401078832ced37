"""The view: what it believes, and when a Model's route changes."""

import asyncio

import pytest

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.proxy import routing
from flexinfer.proxy.errors import RequestError
from flexinfer.proxy.view import OUTAGE_SECONDS
from flexinfer.runtime.kubernetes.api import UnavailableError
from flexinfer.runtime.runtime import Disconnected
from tests.simulation.loop import run
from tests.unit.proxy.parts import (
    ADDRESS,
    Parts,
    deleted,
    draining,
    ready,
    scaled_to_zero,
    settle,
    with_parts,
)


def a_hint(uid: str = "uid-llama", name: str = "llama") -> events.EngineReady:
    """Return the hint that a Model's engine is ready."""
    return events.EngineReady(namespace="default", name=name, uid=uid)


def test_a_ready_hint_makes_it_read_the_model_and_release_its_requests() -> None:
    """Before the stream has it."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        request = parts.send()
        await settle()
        parts.cluster.models["default/llama"] = ready()
        await parts.observe(a_hint())
        assert await request == ADDRESS

    with_parts(main)


def test_a_hint_is_honoured_only_for_a_known_uid() -> None:
    """Not for an unknown Model, nor for one of the same name, nor under another's name."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        parts.cluster.reads.clear()
        await parts.observe(a_hint(uid="other"), a_hint("uid-x", "x"), a_hint("uid-llama", "x"))
        assert parts.cluster.reads == []

    with_parts(main)


def test_a_hint_for_a_ready_model_costs_no_read() -> None:
    """Hints may come twice."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        parts.cluster.reads.clear()
        await parts.observe(a_hint())
        assert parts.cluster.reads == []

    with_parts(main)


def test_a_hint_while_the_api_server_is_unavailable_changes_nothing() -> None:
    """The stream brings it later."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        parts.cluster.faults = [UnavailableError("no answer")]
        await parts.observe(a_hint())
        assert not parts.request().route.address
        await parts.observe(ready())
        assert parts.request().route.address == ADDRESS

    with_parts(main)


def test_an_address_that_changes_is_where_the_next_request_goes() -> None:
    """The route stays the same, and so does its queue."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        request = parts.request()
        await parts.observe(ready(address="127.0.0.10:8080", version=3))
        assert await parts.send(request) == "127.0.0.10:8080"
        assert parts.request().route is request.route

    with_parts(main)


def test_an_older_state_does_not_replace_a_newer_one_that_the_api_server_returned() -> None:
    """Neither as an event nor in a replay of a stream that is behind."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero(version=3))
        parts.cluster.models["default/llama"] = ready(version=5)
        await parts.observe(a_hint())
        await parts.observe(scaled_to_zero(version=4))
        assert parts.request().route.address == ADDRESS
        await parts.replay(scaled_to_zero(version=4))
        assert parts.request().route.address == ADDRESS

    with_parts(main)


def test_a_replay_does_not_take_it_back_behind_what_the_api_server_answered() -> None:
    """The stream may be a moment behind."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero(version=5))
        parts.cluster.models["default/llama"] = ready(version=9)
        await parts.observe(a_hint())
        assert parts.request().route.address == ADDRESS
        await parts.replay(scaled_to_zero(version=5))
        assert parts.request().route.address == ADDRESS

    with_parts(main)


def test_a_replay_with_another_model_of_the_name_replaces_a_newer_one() -> None:
    """After the API server was restored from a backup, versions begin again from a lower one."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready(version=9))
        route = parts.request().route
        await parts.replay(scaled_to_zero(version=6, uid="uid-2"))
        assert (route.deleted, parts.request().route.model.uid) == (True, "uid-2")

    with_parts(main)


def test_an_answer_that_is_older_than_what_arrived_meanwhile_is_asked_for_again() -> None:
    """The stream says a thing once: an answer that took long must not undo it."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero(version=5))
        late: asyncio.Future[None] = asyncio.Future()
        parts.cluster.delays = [late]
        await parts.observe(a_hint())
        await parts.observe(ready(version=9))
        late.set_result(None)
        await settle()
        assert parts.request().route.address == ADDRESS
        assert len(parts.cluster.reads) == 2

    with_parts(main)


def test_a_replay_without_a_model_deletes_it() -> None:
    """Its queued requests are answered."""

    async def main(parts: Parts) -> None:
        await parts.observe(scaled_to_zero())
        request = parts.send()
        await settle()
        await parts.replay(ready("other"))
        await settle()
        assert str(request.exception()) == "model llama was deleted"
        assert [m.metadata.name for m in parts.gateway.models] == ["other"]

    with_parts(main)


def test_routes_of_deleted_models_are_not_kept() -> None:
    """But that of one whose requests are in flight: it may not have been deleted after all."""

    async def main(parts: Parts) -> None:
        response: asyncio.Future[str] = asyncio.Future()
        await parts.observe(ready("busy"))
        in_flight = parts.send(parts.request("busy"), engine=lambda _address: response)
        await settle()
        await parts.observe(deleted(ready("busy")))
        for number in range(9):
            model = ready(f"m{number}")
            await parts.observe(model, deleted(model))
        assert set(parts.view._deleted) == {"uid-busy", "uid-m8"}
        response.set_result("served")
        assert await in_flight == "served"
        await parts.observe(ready("last"), deleted(ready("last")))
        assert set(parts.view._deleted) == {"uid-last"}

    with_parts(main)


def test_routes_stay_while_nats_is_unavailable() -> None:
    """The last state is the best there is."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        await parts.deliver(Disconnected())
        await asyncio.sleep(OUTAGE_SECONDS)
        assert not parts.view.nats_available
        assert await parts.send() == ADDRESS

    with_parts(main)


def test_a_model_that_stops_being_ready_gets_no_new_requests_and_keeps_those_in_flight() -> None:
    """They end by themselves; the next ones are queued."""

    async def main(parts: Parts) -> None:
        await parts.observe(ready())
        response: asyncio.Future[str] = asyncio.Future()
        in_flight = parts.send(engine=lambda _address: response)
        await settle()
        await parts.observe(draining())
        queued = parts.send()
        await settle()
        breaker = parts.request().route.breaker
        assert (breaker.in_flight, breaker.queued) == (1, 1)
        response.set_result("served")
        assert await in_flight == "served"
        await parts.observe(ready(version=4))
        assert await queued == ADDRESS

    with_parts(main)


def test_the_proxy_is_ready_once_the_api_server_has_answered() -> None:
    """After an outage the stream may be older than the cluster."""

    async def main() -> None:
        parts = Parts()
        parts.cluster.faults = [UnavailableError("no answer"), UnavailableError("no answer")]
        follow = asyncio.create_task(parts.view.follow())
        await parts.replay(ready())
        assert parts.ready == []
        await asyncio.sleep(2)
        assert (parts.ready, len(parts.cluster.reads)) == ([True], 3)
        await parts.replay(ready())
        assert parts.ready == [True]
        follow.cancel()

    run(main())


def test_an_unexpected_error_costs_one_model_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged and reported; the stream is followed further."""

    async def main() -> None:
        parts = Parts()
        follow = asyncio.create_task(parts.view.follow())
        address = routing.ready_address

        def broken(model: Model) -> str:
            if model.metadata.name == "broken":
                raise RuntimeError("a bug")
            return address(model)

        monkeypatch.setattr(routing, "ready_address", broken)
        await parts.replay(ready("a"), ready("broken"), ready("b"))
        await parts.observe(ready("broken", version=3), ready("c"))
        assert parts.failures == ["default/broken", "default/broken"]
        for name in "abc":
            assert parts.request(name).route.address == ADDRESS
        with pytest.raises(RequestError):
            parts.request("broken")
        assert not follow.done()
        follow.cancel()

    run(main())
