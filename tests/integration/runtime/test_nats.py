"""The streams on a real nats-server: replay, watermark, restarts and wiped stores."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js.api import StreamConfig

from flexinfer.events import codec, events
from flexinfer.events.events import AnyEvent
from flexinfer.events.subjects import STATE_STREAM, STREAMS
from flexinfer.runtime.clock import monotonic
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.nats.state_writer import StaleWriteError, StateStream
from flexinfer.runtime.runtime import CaughtUp, Delivery, Disconnected, Snapshot, Subscriptions
from flexinfer.state.observed import Observation
from tests.builders import a_model
from tests.nats import NatsServer, nats_server
from tests.patience import patient

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def writer(server: NatsServer, *, deletion_seconds: int = 3600) -> AsyncIterator[StateStream]:
    """Open the state stream as the watcher does; yields it."""
    async with (
        connection.connected("watcher", server.url, "", "") as link,
        connection.connected("bootstrap", server.url, "", "") as bootstrap,
    ):
        stream = StateStream(link, bootstrap, deletion_seconds=deletion_seconds)
        await stream.open()
        yield stream


async def until_snapshot(deliveries: AsyncIterator[Delivery], count: int) -> Snapshot:
    """Return the first snapshot of that many observations."""
    async with asyncio.timeout(patient(20)):
        async for delivery in deliveries:
            if isinstance(delivery, Snapshot) and len(delivery.observations) == count:
                return delivery
    raise AssertionError("the deliveries ended")


def event_of(delivery: Delivery) -> AnyEvent:
    """Return the event of an observation."""
    assert isinstance(delivery, Observation)
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
            async with asyncio.timeout(patient(5)):
                delivery = await anext(deliveries)
            assert isinstance(delivery, Observation)
            assert isinstance(delivery.event, events.ModelDeleted)


async def test_a_reader_catches_up_with_what_was_sent_before(tmp_path: Path) -> None:
    """What it has not read yet comes first."""
    async with nats_server(tmp_path) as server, writer(server) as stream:
        await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
        await stream.watermark()
        async with connection.connected("reaper", server.url, "", "") as link:
            bus = NatsBus(link)
            deliveries = bus.deliveries(Subscriptions(hints=("wake",), live=("activity", "gpu")))
            await until_snapshot(deliveries, 1)
            for version in range(2, 50):
                await stream.publish(events.ModelObserved(model=a_model("a", version=version)))
            asked = monotonic()
            bus.catch_up()
            async with asyncio.timeout(patient(5)):
                received = [await anext(deliveries)]
                while not (isinstance(received[-1], CaughtUp) and received[-1].at >= asked):
                    received.append(await anext(deliveries))
            models = [one.event for one in received if isinstance(one, Observation)]
            versions = [
                event.model.metadata.resource_version
                for event in models
                if isinstance(event, events.ModelObserved)
            ]
            assert versions == [str(version) for version in range(2, 50)]


async def test_a_publisher_of_telemetry_knows_whether_the_stream_has_it(tmp_path: Path) -> None:
    """No stream yet, a stream, no server: what is not stored is known at once, and never published late."""
    sample = events.GpusObserved(node="n", boot="b", sample=1)
    async with nats_server(tmp_path) as server, connection.connected("agent", server.url, "", "") as link:
        bus = NatsBus(link)
        assert not await bus.publish(sample)
        async with writer(server):
            assert await bus.publish(sample)
            assert await bus.publish(events.ProxyObserved(proxy="proxy-0"))
        await server.stop()
        async with asyncio.timeout(patient(10)):
            while link.up:
                await asyncio.sleep(0.01)
        assert not await bus.publish(sample)


async def test_a_second_writer_is_rejected(tmp_path: Path) -> None:
    """A writer must know the last sequence of the subject."""
    async with nats_server(tmp_path) as server, writer(server) as first, writer(server) as second:
        await first.publish(events.ModelObserved(model=a_model("a", version=1)))
        with pytest.raises(StaleWriteError):
            await second.publish(events.ModelObserved(model=a_model("a", version=2)))


async def test_a_second_writers_watermark_is_rejected(tmp_path: Path) -> None:
    """The last watermark of a writer that was paused would send all readers into a replay."""
    async with nats_server(tmp_path) as server, writer(server) as first, writer(server) as second:
        await first.watermark()
        with pytest.raises(StaleWriteError):
            await second.watermark()
        await second.open()
        await second.watermark()


async def messages(server: NatsServer) -> int:
    """Return how many messages the state stream holds."""
    async with connection.connected("person", server.url, "", "") as link:
        return (await link.client.jetstream().stream_info(STATE_STREAM)).state.messages


async def until_messages(server: NatsServer, count: int) -> None:
    """Return once the state stream holds that many messages."""
    async with asyncio.timeout(patient(20)):
        while await messages(server) != count:
            await asyncio.sleep(0.1)


async def test_deletions_expire_and_neither_old_nor_new_readers_miss_anything(tmp_path: Path) -> None:
    """A reader that is connected keeps its deletions; one that starts later gets a whole snapshot without them."""
    async with nats_server(tmp_path) as server, writer(server, deletion_seconds=1) as stream:
        await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
        await stream.publish(events.ModelObserved(model=a_model("b", version=2)))
        await stream.watermark()
        async with (
            connection.connected("placer", server.url, "", "") as old_link,
            connection.connected("reaper", server.url, "", "") as new_link,
        ):
            old = NatsBus(old_link).deliveries(Subscriptions())
            await until_snapshot(old, 2)
            await stream.publish(events.ModelDeleted(namespace="default", name="b", uid="uid-b"))
            await stream.watermark()
            await until_messages(server, 2)  # `a` and the watermark
            await stream.watermark()
            await until_snapshot(NatsBus(new_link).deliveries(Subscriptions()), 1)
            async with asyncio.timeout(patient(5)):
                deletion = await anext(old)
                await stream.publish(events.ModelObserved(model=a_model("a", version=4)))
                change = await anext(old)
            assert isinstance(deletion, Observation)
            assert isinstance(deletion.event, events.ModelDeleted)
            assert isinstance(change, Observation)


async def test_a_model_that_comes_back_after_its_deletion_expired_costs_one_comparison(
    tmp_path: Path,
) -> None:
    """The writer expects the deletion, which the stream no longer holds."""
    again = events.ModelObserved(model=a_model("b", version=3))
    async with nats_server(tmp_path) as server, writer(server, deletion_seconds=1) as stream:
        await stream.publish(events.ModelObserved(model=a_model("b", version=2)))
        await stream.publish(events.ModelDeleted(namespace="default", name="b", uid="uid-b"))
        await until_messages(server, 0)
        with pytest.raises(StaleWriteError):
            await stream.publish(again)
        await stream.open()
        assert await stream.publish(again)


async def test_a_stream_of_an_earlier_release_learns_that_deletions_expire(tmp_path: Path) -> None:
    """Its configuration is brought up to date; all else in it stays as an administrator may have set it."""
    async with nats_server(tmp_path) as server:
        async with connection.connected("person", server.url, "", "") as link:
            config = StreamConfig(
                name=STATE_STREAM,
                subjects=list(STREAMS[STATE_STREAM]),
                max_msgs_per_subject=1,
                max_bytes=1 << 20,
            )
            await link.client.jetstream().add_stream(config)
        async with writer(server, deletion_seconds=1) as stream:
            await stream.publish(events.ModelObserved(model=a_model("b", version=2)))
            await stream.publish(events.ModelDeleted(namespace="default", name="b", uid="uid-b"))
            await until_messages(server, 0)
            async with connection.connected("person", server.url, "", "") as link:
                info = await link.client.jetstream().stream_info(STATE_STREAM)
            assert info.config.max_bytes == 1 << 20


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
            async with asyncio.timeout(patient(10)):
                await stream.suspect()
                await stream.open()
            await stream.publish(model)
            await stream.publish(events.ModelObserved(model=a_model("b", version=2)))
            await stream.watermark()
            await until_snapshot(deliveries, 2)


async def test_a_watermark_of_another_state_ends_no_replay(tmp_path: Path) -> None:
    """The stream holds a watermark that was published before the last change of a Model: the next one counts."""
    async with nats_server(tmp_path) as server, writer(server) as stream:
        await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
        await stream.watermark()
        await stream.publish(events.ModelObserved(model=a_model("a", version=2)))
        async with connection.connected("placer", server.url, "", "") as link, asyncio.timeout(patient(10)):
            deliveries = NatsBus(link).deliveries(Subscriptions())
            first = asyncio.ensure_future(anext(deliveries))
            while not (await link.client.jetstream().stream_info(STATE_STREAM)).state.consumer_count:
                await asyncio.sleep(0.01)
            await stream.watermark()
            snapshot = await first
            assert isinstance(snapshot, Snapshot)
            assert len(snapshot.observations) == 1


async def test_a_reader_that_sees_nothing_reports_it_until_a_watermark_matches_again(tmp_path: Path) -> None:
    """Since the last one that did: this is what makes a blind component not ready."""
    problems: list[tuple[str | None, float | None]] = []

    def report(cause: str, problem: str | None, since: float | None = None) -> None:
        problems.append((problem, since))

    async with nats_server(tmp_path) as server, writer(server) as stream:
        await stream.watermark()
        async with connection.connected("placer", server.url, "", "") as link:
            deliveries = NatsBus(link, report).deliveries(Subscriptions())
            await until_snapshot(deliveries, 0)
            matched = monotonic()
            assert problems == [(None, None)]
            await server.stop()
            async with asyncio.timeout(patient(10)):
                assert isinstance(await anext(deliveries), Disconnected)
            problem, since = problems[-1]
            assert problem == "reading the state stream: disconnected"
            assert since is not None
            assert since <= matched
            await server.start()
            async with asyncio.timeout(patient(10)):
                await stream.suspect()
                await stream.open()
            await stream.watermark()
            await until_snapshot(deliveries, 0)
            assert problems[-1] == (None, None)


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
            async with asyncio.timeout(patient(5)):
                delivery = await anext(deliveries)
                letter = await dead.next_msg(timeout=patient(5))
            assert isinstance(delivery, Observation)
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
                    letter = await letters.next_msg(timeout=patient(5))
                    assert (letter.subject, letter.data) == (f"flexinfer.dead.{kind}", body)
                    assert list(letter.headers or ()) == ["Flexinfer-Reason"]
            await NatsBus(person).publish(events.EngineReady(namespace="default", name="a", uid="u"))
            await NatsBus(person).publish(events.ProxyObserved(proxy="p"))
            async with asyncio.timeout(patient(10)):
                received = {type(event_of(await anext(deliveries))) for _ in range(2)}
            assert received == {events.EngineReady, events.ProxyObserved}
