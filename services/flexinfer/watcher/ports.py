"""What the watcher asks of its surroundings: the state stream that it alone writes."""

from collections.abc import Mapping
from typing import Protocol

from flexinfer.events.events import StateEvent
from flexinfer.runtime.nats.state_writer import StreamEntry


class Stream(Protocol):
    """`runtime.stream.StateStream`, and what the simulation puts in its place."""

    @property
    def held(self) -> Mapping[str, StreamEntry]:
        """Subject -> what the stream holds, as far as its own replay and acks tell."""
        ...

    async def open(self) -> None:
        """Make what is missing and read back what is held; waits for NATS."""
        ...

    async def publish(self, event: StateEvent) -> bool:
        """Publish a fact unless it is held already; StaleWriteError or BusAwayError when that cannot be said."""
        ...

    async def watermark(self) -> None:
        """Tell what a reader must hold by now; never while a publish is under way."""
        ...

    async def suspect(self) -> None:
        """Return when what is held may no longer be true."""
        ...

    def mark_suspect(self) -> None:
        """Say that what is held may no longer be true."""
        ...
