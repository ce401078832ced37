"""The streams on a real nats-server: replay, watermark, restarts and wiped stores."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flexinfer.events import codec, events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.nats.state_writer import StaleWriteError, StateStream
from flexinfer.runtime.runtime import Delivery, Disconnected, Snapshot, Subscriptions
from tests.builders import a_model
from tests.nats import NatsServer, nats_server

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def writer(server: NatsServer) -> AsyncIterator[StateStream]:
    """Open the state stream as the watcher does; yields it."""
    async with (
        connection.connected("watcher", server.url, "", "") as link,
        connection.connected("bootstrap", server.url, "", "") as bootstrap,
    ):
        stream = StateStream(link, bootstrap)
        await stream.open()
        yield stream


async def until_snapshot(deliveries: AsyncIterator[Delivery], count: int) -> Snapshot:
    """Return the first snapshot of that many observations."""
    async with asyncio.timeout(20):
        async for delivery in deliveries:
            if isinstance(delivery, Snapshot) and len(delivery.observations) == count:
                return delivery
    raise AssertionError("the deliveries ended")


def event_of(delivery: Delivery) -> AnyEvent:
    """Return the event of an observation."""
    assert not isinstance(delivery, Snapshot | Disconnected)
    return delivery.event


async def test_a_reader_gets_a_snapshot_and_then_what_is_published(tmp_path: Path) -> None:
    """The snapshot holds the last event of each subject."""
    async with nats_server(tmp_path) as server, writer(server) as stream:
        await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
        await stream.publish(events.ModelObserved(model=a_model("a", version=2)))
        await stream.publish(events.ModelObserved(model=a_model("b", version=3)))
        await stream.watermark()
        async with connection.connected("placer", server.url, "", "") as link:
            deliveries = NatsBus(link).deliveries(Subscriptions())
            snapshot = await until_snapshot(deliveries, 2)
            versions = sorted(
                a.event.model.metadata.version
                for a in snapshot.observations
                if isinstance(a.event, events.ModelObserved)
            )
            assert versions == [2, 3]
            await stream.publish(events.ModelDeleted(namespace="default", name="b", uid="uid-b"))
            async with asyncio.timeout(5):
                delivery = await anext(deliveries)
            assert not isinstance(delivery, Snapshot | Disconnected)
            assert isinstance(delivery.event, events.ModelDeleted)


async def test_a_second_writer_is_rejected(tmp_path: Path) -> None:
    """A writer must know the last sequence of the subject."""
    async with nats_server(tmp_path) as server, writer(server) as first, writer(server) as second:
        await first.publish(events.ModelObserved(model=a_model("a", version=1)))
        with pytest.raises(StaleWriteError):
            await second.publish(events.ModelObserved(model=a_model("a", version=2)))


@pytest.mark.parametrize("wiped", [False, True], ids=["restarted", "wiped"])
async def test_a_reader_replays_after_a_restart_of_the_server(tmp_path: Path, *, wiped: bool) -> None:
    """A killed server, with its store or without, costs one replay."""
    async with nats_server(tmp_path) as server, writer(server) as stream:
        model = events.ModelObserved(model=a_model("a", version=1))
        await stream.publish(model)
        await stream.watermark()
        async with connection.connected("placer", server.url, "", "") as link:
            deliveries = NatsBus(link).deliveries(Subscriptions())
            await until_snapshot(deliveries, 1)
            await server.stop()
            if wiped:
                shutil.rmtree(server.store)
            await server.start()
            async with asyncio.timeout(10):
                await stream.suspect()
                await stream.open()
            await stream.publish(model)
            await stream.publish(events.ModelObserved(model=a_model("b", version=2)))
            await stream.watermark()
            await until_snapshot(deliveries, 2)


async def test_a_message_that_does_not_decode_becomes_a_dead_letter(tmp_path: Path) -> None:
    """What follows it still arrives."""
    async with nats_server(tmp_path) as server, writer(server) as stream:
        await stream.watermark()
        async with (
            connection.connected("placer", server.url, "", "") as link,
            connection.connected("person", server.url, "", "") as person,
        ):
            deliveries = NatsBus(link).deliveries(Subscriptions(hints=("wake",)))
            await until_snapshot(deliveries, 0)
            dead = await person.client.subscribe("flexinfer.dead.>")
            await person.client.publish("flexinfer.wake.default.a", b"nonsense")
            await NatsBus(person).publish(events.WakeRequested(namespace="default", name="a", uid="u"))
            async with asyncio.timeout(5):
                delivery = await anext(deliveries)
                letter = await dead.next_msg()
            assert not isinstance(delivery, Snapshot | Disconnected)
            assert isinstance(delivery.event, events.WakeRequested)
            assert letter.subject == "flexinfer.dead.wake.default.a"


async def test_no_message_ends_a_subscription(tmp_path: Path) -> None:
    """Whatever its bytes, and whatever event it holds that belongs elsewhere: a dead letter, and on."""
    forged = events.ModelRestored(model=a_model("b", version=9))
    elsewhere = codec.encode(events.ModelObserved(model=a_model("b", version=9)))
    bodies = (b"", b"\xff", b"[]", b'{"type": "a\\r\\nX-Header: b"}', codec.encode(forged), elsewhere)
    async with nats_server(tmp_path) as server, writer(server) as stream:
        await stream.watermark()
        async with (
            connection.connected("proxy", server.url, "", "") as link,
            connection.connected("person", server.url, "", "") as person,
        ):
            deliveries = NatsBus(link).deliveries(Subscriptions(hints=("ready",), live=("activity",)))
            await until_snapshot(deliveries, 0)
            letters = await person.client.subscribe("flexinfer.dead.>")
            await connection.flush(person.client)
            for body in bodies:
                for kind in ("ready.default.a", "activity.p", "model.default.a", "watermark"):
                    await person.client.publish(f"flexinfer.{kind}", body)
                    letter = await letters.next_msg(timeout=5)
                    assert (letter.subject, letter.data) == (f"flexinfer.dead.{kind}", body)
                    assert list(letter.headers or ()) == ["Flexinfer-Reason"]
            await NatsBus(person).publish(events.EngineReady(namespace="default", name="a", uid="u"))
            await NatsBus(person).publish(events.ProxyObserved(proxy="p"))
            async with asyncio.timeout(10):
                received = {type(event_of(await anext(deliveries))) for _ in range(2)}
            assert received == {events.EngineReady, events.ProxyObserved}
