"""Events: every fact that travels on the bus, and the few that a service tells itself.

An event says how something looked. It never asks for anything: losing, doubling or delaying one may cost
time, never correctness (DESIGN, law 1). Ages and remaining times travel instead of foreign clocks (law 8).
"""

from typing import TypeAlias

from flexinfer.api.model import Model
from flexinfer.events.base import Event
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.events.workload import ClaimFacts, GroupLease, JobFacts, PodFacts


class ModelObserved(Event, frozen=True, kw_only=True):
    """A Model as the API server holds it."""

    model: Model


class ModelDeleted(Event, frozen=True, kw_only=True):
    """A Model is gone; `version` is the resourceVersion of its deletion or of the list that lacked it."""

    namespace: str
    name: str
    uid: str
    version: int = 0


class WorkloadObserved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that the cluster holds for one Model: Pods, Jobs, claims and its group's Lease.

    `version` only grows for a subject; the stream's order is what counts.
    """

    namespace: str
    name: str
    version: int = 0
    pods: tuple[PodFacts, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    claims: tuple[ClaimFacts, ...] = ()
    lease: GroupLease | None = None

    @property
    def key(self) -> str:
        """The Model's key."""
        return f"{self.namespace}/{self.name}"


class WorkloadDeleted(Event, frozen=True, kw_only=True):
    """Nothing is left of what the cluster held for a Model."""

    namespace: str
    name: str


class NodeObserved(Event, frozen=True, kw_only=True):
    """A node as the API server holds it."""

    name: str
    node: NodeFacts


class NodeDeleted(Event, frozen=True, kw_only=True):
    """A node is gone."""

    name: str
    version: int = 0


class Watermark(Event, frozen=True, kw_only=True):
    """What a reader must hold by now: per kind, the count and the sum of hashes (`fleet.mark_of`)."""

    stream_created: str
    counts: dict[str, int]
    sums: dict[str, int]


class GpusObserved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """All devices of a node in one sample; `sample` grows by one each time and starts anew with `boot`."""

    node: str
    boot: str
    sample: int
    devices: tuple[Device, ...] = ()
    message: str = ""


class ActivityObserved(Event, frozen=True, kw_only=True):
    """One proxy's traffic of one Model; `idle_seconds` is the age of the last request's end or start."""

    proxy: str
    namespace: str
    name: str
    uid: str
    idle_seconds: float
    in_flight: int
    waiting: int


class ProxyObserved(Event, frozen=True, kw_only=True):
    """A proxy's heartbeat, every 5 s; `final` in its shutdown message."""

    proxy: str
    final: bool = False


class HistoryRecorded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a Model's life: what, by whom, why, and how long it took."""

    namespace: str
    name: str
    uid: str
    service: str
    step: str
    reason: str = ""
    message: str = ""
    seconds: float | None = None
    at: str = ""


class WakeRequested(Event, frozen=True, kw_only=True):
    """Somebody asks for a sleeping Model."""

    namespace: str
    name: str
    uid: str


class StatusChanged(Event, frozen=True, kw_only=True):
    """A status write, so that the next service need not wait for the watcher: it GETs the Model."""

    owner: str
    namespace: str
    name: str
    uid: str
    version: int


class EngineReady(Event, frozen=True, kw_only=True):
    """The launcher has seen the engine answer: the proxy GETs the Model once."""

    namespace: str
    name: str
    uid: str


class LeaseObserved(Event, frozen=True, kw_only=True):
    """The arbiter's own fact: a group's Lease as its write returned it; never published."""

    lease: GroupLease


StateEvent: TypeAlias = (
    ModelObserved | ModelDeleted | WorkloadObserved | WorkloadDeleted | NodeObserved | NodeDeleted
)
AnyEvent: TypeAlias = (
    StateEvent
    | Watermark
    | GpusObserved
    | ActivityObserved
    | ProxyObserved
    | HistoryRecorded
    | WakeRequested
    | StatusChanged
    | EngineReady
    | LeaseObserved
)
DELETIONS = (ModelDeleted, WorkloadDeleted, NodeDeleted)
