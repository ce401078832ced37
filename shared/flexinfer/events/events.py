"""Events: everything that is published on NATS. Pure.

An event is an observation and never a command: that one is lost, repeated or late may cost time, never
correctness (DESIGN, law 1). Events carry ages instead of times, because clocks differ (law 8). Subjects are
in `subjects`, who may publish and read in `permissions`.
"""

from typing import TypeAlias

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.events.base import Count, Event
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.events.workload import ClaimFacts, JobFacts, PodFacts


class ModelObserved(Event, frozen=True, kw_only=True):
    """A Model as the API server holds it."""

    model: Model


class ModelDeleted(Event, frozen=True, kw_only=True):
    """A Model was deleted; `version` is the resourceVersion of its deletion, or of a list without it.

    Anything older of that name is gone too; `uid` is empty if that of what readers held last is not known.
    """

    namespace: str
    name: str
    uid: str
    version: int = 0


class WorkloadObserved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that the cluster holds for one Model: Pods, Jobs and PVCs.

    `version` only grows for a subject; readers go by the order of the stream.
    """

    namespace: str
    name: str
    version: int = 0
    pods: tuple[PodFacts, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    claims: tuple[ClaimFacts, ...] = ()

    @property
    def key(self) -> str:
        """The Model's key."""
        return f"{self.namespace}/{self.name}"


class WorkloadDeleted(Event, frozen=True, kw_only=True):
    """The cluster holds nothing for a Model any more."""

    namespace: str
    name: str


class GroupObserved(Event, frozen=True, kw_only=True):
    """A SharedGroup as the API server holds it."""

    group: SharedGroup


class GroupDeleted(Event, frozen=True, kw_only=True):
    """A SharedGroup was deleted; `version` is the resourceVersion of its deletion, or of a list without it.

    Anything older of that name is gone too; `uid` is empty if that of what readers held last is not known.
    """

    namespace: str
    name: str
    uid: str
    version: int = 0


class LeaseObserved(Event, frozen=True, kw_only=True):
    """A GPULease as the API server holds it."""

    lease: GPULease


class LeaseDeleted(Event, frozen=True, kw_only=True):
    """A GPULease was deleted; `version` is the resourceVersion of its deletion, or of a list without it.

    Anything older of that name is gone too; `uid` is empty if that of what readers held last is not known.
    """

    namespace: str
    name: str
    uid: str
    version: int = 0


class NodeObserved(Event, frozen=True, kw_only=True):
    """A node as the API server holds it."""

    name: str
    node: NodeFacts


class NodeDeleted(Event, frozen=True, kw_only=True):
    """A node was deleted."""

    name: str
    version: int = 0


class Watermark(Event, frozen=True, kw_only=True):
    """What a reader must have read: per kind, the count of subjects and the sum of their digests."""

    stream_created: str
    counts: dict[str, int]
    sums: dict[str, int]


class GpusObserved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """All devices of a node in one sample; `sample` counts from 1 after each `boot` of the agent.

    `age_seconds` is the time from the moment before the devices were read until it was published, by the agent's
    own monotonic clock: an agent that was paused in between publishes an old state.
    """

    node: str
    boot: str
    sample: Count
    age_seconds: float = 0.0
    devices: tuple[Device, ...] = ()
    message: str = ""


class ActivityObserved(Event, frozen=True, kw_only=True):
    """One proxy's traffic of one Model; `idle_seconds` counts from the start or end of its last request.

    `version` is the resourceVersion of the Model as this proxy has observed it: what it says of requests holds
    for a stop only if the version is not below that of the write which began the stop.
    """

    proxy: str
    namespace: str
    name: str
    uid: str
    idle_seconds: float
    in_flight: Count
    waiting: Count
    version: Count = 0


class ProxyObserved(Event, frozen=True, kw_only=True):
    """A proxy's heartbeat, published every 5 s; `final` in its shutdown message.

    `version` is the highest resourceVersion of any Model that this proxy has observed; 0 before its first replay.
    """

    proxy: str
    final: bool = False
    version: Count = 0


class HistoryRecorded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """One transition of a Model: what changed, which component wrote it, why, and how long it took.

    `version` is the resourceVersion that it was written as: it tells two transitions apart that are alike, as those of
    two starts, and not the same one that was published twice.
    """

    namespace: str
    name: str
    uid: str
    service: str
    step: str
    reason: str = ""
    message: str = ""
    seconds: float | None = None
    at: str = ""
    version: Count = 0


class WakeRequested(Event, frozen=True, kw_only=True):
    """A request is queued for a Model that is scaled to zero."""

    namespace: str
    name: str
    uid: str


class StatusChanged(Event, frozen=True, kw_only=True):
    """A status was written: the next component GETs the Model without waiting for the watcher."""

    owner: str
    namespace: str
    name: str
    uid: str
    version: Count


class EngineReady(Event, frozen=True, kw_only=True):
    """The engine answered the launcher's probe: the proxy GETs the Model once."""

    namespace: str
    name: str
    uid: str


class SampleAwaited(Event, frozen=True, kw_only=True):
    """A step waits for a sample of a node's devices that is taken from now on: its agent samples at once."""

    node: str


class DownloadObserved(Event, frozen=True, kw_only=True):
    """How far the download of a Model's weights is, once a second while its Job runs; sizes are bytes."""

    namespace: str
    name: str
    uid: str
    job: str
    bytes: Count
    total_bytes: Count
    bytes_per_second: Count = 0
    file: str = ""


class ModelRestored(Event, frozen=True, kw_only=True):
    """A Model of an API server that was restored from a backup; never published.

    Its version is below one that the API server had returned before, and it is what counts.
    """

    model: Model


class GroupRestored(Event, frozen=True, kw_only=True):
    """A SharedGroup of an API server that was restored from a backup, as ModelRestored; never published."""

    group: SharedGroup


class LeaseRestored(Event, frozen=True, kw_only=True):
    """A GPULease of an API server that was restored from a backup, as ModelRestored; never published."""

    lease: GPULease


class LeaseTimed(Event, frozen=True, kw_only=True):
    """How long a GPULease lasts yet by the wall clock of this process; never published.

    `expires_at` is the end that this was measured to, as its status names it.
    """

    namespace: str
    name: str
    uid: str
    expires_at: str
    remaining_seconds: float


StateEvent: TypeAlias = (
    ModelObserved
    | ModelDeleted
    | WorkloadObserved
    | WorkloadDeleted
    | GroupObserved
    | GroupDeleted
    | LeaseObserved
    | LeaseDeleted
    | NodeObserved
    | NodeDeleted
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
    | SampleAwaited
    | DownloadObserved
    | ModelRestored
    | GroupRestored
    | LeaseRestored
    | LeaseTimed
)
DELETIONS = (ModelDeleted, WorkloadDeleted, GroupDeleted, LeaseDeleted, NodeDeleted)
