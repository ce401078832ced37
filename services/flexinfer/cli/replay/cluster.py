"""The cluster of a replay: the observed state that the components decide from, and their writes to it. Pure.

Each write is observed at once; proxies report every 5 s, and telemetry comes every 10 s and when memory has changed.
"""

from collections.abc import Callable, Iterator

import msgspec

from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup, SharedGroupStatus
from flexinfer.cli.replay.objects import (
    GROUP_KEY,
    NODE,
    PROXY,
    MemoryUse,
    group_of,
    key_of,
    model_of,
    node_facts,
    sample_of,
)
from flexinfer.cli.replay.trace import Trace
from flexinfer.events.events import (
    ActivityObserved,
    AnyEvent,
    GpusObserved,
    GroupObserved,
    ModelObserved,
    NodeObserved,
    ProxyObserved,
)
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

BEGIN = 1000.0
"""The time of the components' clock at which a trace begins, in seconds."""
HEARTBEAT_SECONDS, SAMPLE_SECONDS = 5.0, 10.0


class Traffic(msgspec.Struct):
    """The requests of a Model as the proxy counts them; `last` is when one last began or ended."""

    last: float
    in_flight: int = 0
    waiting: int = 0


class Cluster:
    """The observed state at `now`, and the writes that change it."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._version, self._samples = trace, 1, 0
        self.now, self._heartbeat_at = BEGIN, BEGIN
        self.traffic: dict[str, Traffic] = {}
        self.processes: dict[str, MemoryUse] = {}
        self.state = msgspec.structs.replace(ObservedState(), connected_since=0.0)
        self.observe(
            NodeObserved(name=NODE, node=node_facts()),
            ProxyObserved(proxy=PROXY),
            *(ModelObserved(model=model_of(one)) for one in trace.models),
            GroupObserved(group=group_of(trace.group)),
            self._sample(),
        )

    @property
    def group(self) -> SharedGroup:
        """The SharedGroup."""
        return self.state.groups[GROUP_KEY]

    def model(self, name: str) -> Model:
        """Return a Model."""
        return self.state.models[key_of(name)]

    def observe(self, *events: AnyEvent) -> None:
        """Apply events that are observed now."""
        self.state = apply_events(self.state, [Observation(event, self.now) for event in events])

    def advance(self, at: float) -> None:
        """Continue to a later time; what is published every few seconds until then is observed."""
        self.state = apply_events(self.state, self._until(at))
        self.now = at

    def _until(self, at: float) -> Iterator[Observation]:
        while self._heartbeat_at + HEARTBEAT_SECONDS <= at:
            self._heartbeat_at += HEARTBEAT_SECONDS
            yield Observation(ProxyObserved(proxy=PROXY), self._heartbeat_at)
            for name, traffic in self.traffic.items():
                if traffic.in_flight or traffic.waiting:
                    yield Observation(self._activity(name, self._heartbeat_at), self._heartbeat_at)
            if (self._heartbeat_at - BEGIN) % SAMPLE_SECONDS == 0:
                yield Observation(self._sample(), self._heartbeat_at)

    def sample(self) -> None:
        """Observe telemetry of the card as it is now."""
        self.observe(self._sample())

    def _sample(self) -> GpusObserved:
        self._samples += 1
        return sample_of(self._trace, self._samples, self.processes.values())

    def report(self, name: str) -> None:
        """Observe the requests of a Model as the proxy counts them now."""
        self.observe(self._activity(name, self.now))

    def _activity(self, name: str, at: float) -> ActivityObserved:
        model, traffic = self.model(name), self.traffic[name]
        return ActivityObserved(
            proxy=PROXY,
            namespace=model.metadata.namespace,
            name=name,
            uid=model.uid,
            idle_seconds=at - traffic.last,
            in_flight=traffic.in_flight,
            waiting=traffic.waiting,
        )

    def write(self, name: str, change: Callable[[Model], Model]) -> None:
        """Write a Model's status, from the Model as it is now."""
        model = change(self.model(name))
        metadata = msgspec.structs.replace(model.metadata, resource_version=self._next_version())
        self.observe(ModelObserved(model=msgspec.structs.replace(model, metadata=metadata)))

    def write_group(self, status: SharedGroupStatus) -> None:
        """Write the SharedGroup's status."""
        group = self.group
        metadata = msgspec.structs.replace(group.metadata, resource_version=self._next_version())
        self.observe(GroupObserved(group=msgspec.structs.replace(group, metadata=metadata, status=status)))

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)
