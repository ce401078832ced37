"""The real writer and reader of the state stream survive what the simulated server does to them."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import events, subjects
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.nats.state_writer import StateStream
from flexinfer.runtime.runtime import CaughtUp, Delivery, Disconnected, Replaying, Snapshot, Subscriptions
from flexinfer.state.observed import Observation
from tests.builders import a_model
from tests.simulation.jetstream.client import SimulatedClient
from tests.simulation.jetstream.server import NatsServer
from tests.simulation.loop import run

NAMES = ("a", "b", "c")


def _server() -> tuple[NatsServer, SimulatedClient, StateStream]:
    """Return a server, the watcher's client and its stream."""
    server = NatsServer(random.Random(1), asyncio.get_running_loop().time, 1e9)
    client = SimulatedClient(server, "watcher", lambda: 0.0)
    return server, client, StateStream(client.connection, client.connection)


async def _publish(stream: StateStream) -> None:
    for name in NAMES:
        await stream.publish(events.ModelObserved(model=a_model(name)))
    await stream.watermark()


@contextlib.asynccontextmanager
async def _reading() -> AsyncIterator[tuple[NatsServer, StateStream, AsyncIterator[Delivery]]]:
    """Yield a server that sends heartbeats, its stream with the Models in it, and what a reader of it delivers."""
    server, _, stream = _server()
    beat = asyncio.create_task(server.send_heartbeats())
    await stream.open()
    await _publish(stream)
    reader = SimulatedClient(server, "reaper", lambda: 0.0)
    yield server, stream, NatsBus(reader.connection).deliveries(Subscriptions())
    beat.cancel()


def test_a_writer_that_misses_a_message_reads_the_stream_again() -> None:
    """Its process does not end: the next reading is complete."""

    async def main() -> int:
        server, _, stream = _server()
        await stream.open()
        await _publish(stream)
        server.faults.gap = 0.6
        await stream.open()
        return sum(subjects.kind_of(subject) in STATE_KINDS for subject in stream.held)

    assert run(main()) == len(NAMES)


def test_a_reader_hears_of_an_outage_and_replays_after_it() -> None:
    """A snapshot, the outage, and a snapshot again, of a server that has lost its memory."""

    async def main() -> list[type]:
        async with _reading() as (server, stream, deliveries):
            kinds = [type(await anext(deliveries))]
            server.stop()
            kinds.append(type(await anext(deliveries)))
            server.start()
            await asyncio.sleep(1)
            await stream.open()
            await stream.watermark()
            kinds.append(type(await anext(deliveries)))
            return kinds

    assert run(main()) == [Snapshot, Disconnected, Snapshot]


def test_a_reader_that_was_paused_catches_up_with_what_was_sent_meanwhile() -> None:
    """Everything that waited for it comes before the CaughtUp, which tells when it was asked for."""

    async def main() -> list[type]:
        server, _, stream = _server()
        await stream.open()
        await _publish(stream)
        paused_until = [0.0]
        reader = SimulatedClient(server, "reaper", lambda: paused_until[0])
        bus = NatsBus(reader.connection)
        deliveries = bus.deliveries(Subscriptions())
        kinds = [type(await anext(deliveries))]
        paused_until[0] = asyncio.get_running_loop().time() + 3
        for name in ("d", "e"):
            await stream.publish(events.ModelObserved(model=a_model(name)))
        bus.catch_up()
        kinds += [type(await anext(deliveries)) for _ in range(3)]
        return kinds

    assert run(main()) == [Snapshot, Observation, Observation, CaughtUp]


def test_a_reader_says_that_it_reads_again_after_a_message_was_lost() -> None:
    """Until the next snapshot nothing is heard, although NATS is connected."""

    async def main() -> list[type]:
        async with _reading() as (server, stream, deliveries):
            kinds = [type(await anext(deliveries))]
            server.faults.gap = 1.0
            await stream.publish(events.ModelObserved(model=a_model("d")))
            server.faults.gap = 0.0
            await stream.watermark()
            kinds += [type(await anext(deliveries)), type(await anext(deliveries))]
            return kinds

    assert run(main()) == [Snapshot, Replaying, Snapshot]


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_message_is_as_old_as_it_is_once_a_watermark_came_after_a_step_of_the_servers_clock(
    step: float,
) -> None:
    """Each watermark tells what the server's clock shows; without one the age of a message is off by the silence before it."""

    async def main() -> float:
        async with _reading() as (server, stream, deliveries):
            assert isinstance(await anext(deliveries), Snapshot)
            server.step = step
            await stream.watermark()
            await asyncio.sleep(3)
            await stream.publish(events.ModelObserved(model=a_model("d")))
            observation = await anext(deliveries)
            assert isinstance(observation, Observation)
            return asyncio.get_running_loop().time() - observation.at

    assert run(main()) == pytest.approx(0, abs=0.01)
