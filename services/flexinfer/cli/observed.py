"""What the components observe, read once from NATS: the same streams that they decide from, without waiting for a watermark.

A plain reader that changes nothing; it needs no more than the `tap` user.
"""

from flexinfer.api.services import STATE_KINDS
from flexinfer.cli.errors import CommandError
from flexinfer.cli.reach import NatsServer
from flexinfer.cli.tap import connect_tap
from flexinfer.events import codec
from flexinfer.events.subjects import LIVE_STREAM, ROOT, STATE_STREAM, kind_of
from flexinfer.runtime.clock import monotonic
from flexinfer.runtime.nats.connection import Connection, NatsUnavailableError, StreamError
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

_KINDS = (*STATE_KINDS, "gpu")


async def observed_state(server: NatsServer) -> ObservedState:
    """Return Models, workloads, groups, nodes and telemetry as the streams hold them now. Raises CommandError."""
    try:
        async with connect_tap(server) as link:
            observations = [
                observation
                for stream in (STATE_STREAM, LIVE_STREAM)
                for observation in await _last_of_each_subject(link, stream)
            ]
    except (StreamError, NatsUnavailableError, ReplayRequiredError) as error:
        raise CommandError(f"the streams on NATS cannot be read: {error}") from error
    return apply_events(ObservedState(connected_since=monotonic()), observations)


async def _last_of_each_subject(link: Connection, stream: str) -> list[Observation]:
    """Return the last event of each subject of a stream; what cannot be decoded is left out, as components do."""
    observations: list[Observation] = []
    async with OrderedConsumer(link, stream, f"{ROOT}.>", last_only=True).opened() as consumer:
        messages, count = consumer.messages(), consumer.pending
        for _ in range(count):
            message = await anext(messages)
            if kind_of(message.subject) not in _KINDS:
                continue
            try:
                event = codec.decode(message.data)
            except codec.UndecodableError:
                continue
            observations.append(Observation(event, monotonic() - consumer.age(message.metadata.timestamp)))
    return observations
