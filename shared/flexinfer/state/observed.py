"""ObservedState: everything that a component last observed. Pure. `state.apply` applies events to it.

Times are seconds of the reader's monotonic clock: the clocks of other processes are not trusted (DESIGN, law
8).
"""

import math
from collections.abc import Collection, Mapping

import msgspec

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup, group_key
from flexinfer.events.events import AnyEvent, GpusObserved, WorkloadObserved
from flexinfer.events.nodes import NodeFacts

HEARTBEAT_GAP = 15.0
"""Seconds without a heartbeat after which a proxy counts as silent; it sends one every 5 s."""
STALE_SECONDS = 30.0
"""Seconds after which a sample no longer says what is in use on a node; its agent sends one every 10 s."""
LEASED = "leased"
"""With `namespace/group`: the GPULeases of a shared group, in `ObservedState.index`."""


class Observation(msgspec.Struct, frozen=True):
    """An event and when it was observed; `reply`: the API server returned it, no stream delivered it."""

    event: AnyEvent
    at: float
    reply: bool = False


class Sample(msgspec.Struct, frozen=True):
    """A node's telemetry and when it was taken."""

    observed: GpusObserved
    at: float

    @property
    def stale_at(self) -> float:
        """From when it is too old to say what is in use."""
        return self.at + STALE_SECONDS


class Activity(msgspec.Struct, frozen=True):
    """One proxy's traffic of one Model; `last` is the time of its last request, `at` that of the report.

    `version` is the Model's resourceVersion that the proxy had observed when it reported.
    """

    uid: str
    last: float
    in_flight: int
    waiting: int
    at: float
    version: int = 0


class ProxyHeartbeat(msgspec.Struct, frozen=True):
    """A proxy's heartbeats: the last one, whether it was the last of all, and since when there was no gap.

    Any message of the proxy counts as one. `version` is the highest resourceVersion of any Model that the proxy had
    observed, as its last own heartbeat said, and `version_at` when that was heard.
    """

    last: float
    final: bool
    since: float
    version: int = 0
    version_at: float = 0.0


class StepSince(msgspec.Struct, frozen=True):
    """Since when a holder of a SharedGroup has been at its step; `group` is the uid of the SharedGroup."""

    group: str
    turn: int
    step: str
    at: float


class LeaseEnd(msgspec.Struct, frozen=True):
    """When a GPULease ends: as its status says (`expires_at`), and by this process's monotonic clock (`at`), as looked up at `looked_at`."""

    expires_at: str
    at: float
    looked_at: float


class Occupant(msgspec.Struct, frozen=True):
    """A Model that runs or starts on a node, as decisions count it: with its workload, and when its conditions changed."""

    model: Model
    workload: WorkloadObserved | None
    changed_at: Mapping[str, float]


class ObservedState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything last observed. Never changed in place."""

    models: Mapping[str, Model] = {}  # key -> last observed
    assumed: Mapping[str, Model] = {}  # key -> the Model as it will be once the write in flight has arrived
    workloads: Mapping[str, WorkloadObserved] = {}  # key -> its Pods, Jobs, PVCs
    lost_pods: Mapping[str, frozenset[str]] = {}  # key -> uids of the Pods that its workload lost last
    groups: Mapping[str, SharedGroup] = {}  # "namespace/object name" -> last observed
    leases: Mapping[str, GPULease] = {}  # "namespace/name" -> last observed
    lease_ends: Mapping[str, LeaseEnd] = {}  # uid of a GPULease -> when it ends
    holding: Mapping[
        str, tuple[str, ...]
    ] = {}  # uid of a Model or GPULease that holds devices -> keys of the SharedGroups that say so: one, but for faults
    leaving: frozenset[str] = frozenset()  # keys of the SharedGroups with a holder that is past Granted
    nodes: Mapping[str, NodeFacts] = {}  # name -> last observed
    occupants: Mapping[
        str, Mapping[str, Occupant]
    ] = {}  # node, observed or not -> key -> a Model that runs or starts there
    grouped: Mapping[
        str, frozenset[str]
    ] = {}  # node, observed or not -> keys of the Models of a shared group, by spec or status, that are scheduled to it
    node_since: Mapping[str, float] = {}  # name -> when first observed
    gpus: Mapping[str, Sample] = {}  # node -> last sample
    activity: Mapping[str, Mapping[str, Activity]] = {}  # key -> proxy -> traffic
    proxies: Mapping[str, ProxyHeartbeat] = {}  # proxy -> heartbeats
    wakes: Mapping[str, tuple[str, float]] = {}  # key -> (uid, when a request asked for a start)
    first_seen: Mapping[str, float] = {}  # uid -> when first observed
    changed_at: Mapping[
        str, Mapping[str, float]
    ] = {}  # uid -> condition type -> when its status or reason last changed
    step_since: Mapping[
        tuple[str, str], StepSince
    ] = {}  # (key of a SharedGroup, uid of a holder) -> since when it is at its step
    released_at: Mapping[
        str, float
    ] = {}  # key of a SharedGroup -> only later telemetry shows all that holders which are off its list have given back
    deleted_versions: Mapping[
        str, int
    ] = {}  # uid of a deleted Model -> the version of its deletion, oldest first
    streamed_versions: Mapping[str, int] = {}  # key -> the version that the stream delivered last
    suppressed: frozenset[str] = (
        frozenset()
    )  # keys of Models that the stream delivered last, and that are taken for deleted
    index: Mapping[tuple[str, str], frozenset[str]] = {}  # see `state.index`
    connected_since: float | None = (
        None  # since when everything that NATS delivers is heard; None while it is not connected or read again
    )
    caught_up_at: float = math.inf
    """The last time by which everything sent to this process is known to have been read: silence until then is silence.

    `actions.CatchUp` asks for a later one. Infinite in a state that no control loop keeps."""

    def workload(self, model: Model) -> WorkloadObserved:
        """Return the Pods, Jobs and PVCs of a Model; empty if none were observed."""
        workload = self.workloads.get(model.key)
        return workload or WorkloadObserved(namespace=model.metadata.namespace, name=model.metadata.name)

    def group(self, namespace: str, name: str) -> SharedGroup | None:
        """Return a group's SharedGroup; None if there is none, or if its name is taken by that of another group."""
        group = self.groups.get(group_key(namespace, name))
        return group if group is not None and group.name == name else None

    def activity_of(self, model: Model) -> Mapping[str, Activity]:
        """Return the traffic of this Model's uid by proxy."""
        by_proxy = self.activity.get(model.key, {})
        return {proxy: activity for proxy, activity in by_proxy.items() if activity.uid == model.uid}

    def changed(self, model: Model, kind: str) -> float | None:
        """Return when status or reason of a condition last changed, as observed here; None if never."""
        return self.changed_at.get(model.uid, {}).get(kind)

    def effective(self, key: str) -> Model | None:
        """Return a Model as it will be once the write in flight has arrived, else as last observed."""
        return self.assumed.get(key) or self.models.get(key)

    def members(self, namespace: str, group: str) -> Collection[str]:
        """Return the keys of the Models whose spec or status names a shared group."""
        return self.index.get(("group", f"{namespace}/{group}"), frozenset())

    def leases_of(self, namespace: str, group: str) -> Collection[str]:
        """Return the keys of the GPULeases of a shared group."""
        return self.index.get((LEASED, f"{namespace}/{group}"), frozenset())

    def grouped_on(self, node: str) -> Collection[str]:
        """Return the keys of the Models of a shared group that are scheduled to a node."""
        return self.grouped.get(node, frozenset())

    def on_node(self, node: str) -> Collection[str]:
        """Return the keys of the Models whose placement names a node."""
        return self.index.get(("node", node), frozenset())

    def under(self, entry: str, name: str) -> Collection[str]:
        """Return the keys of the Models under an entry of `state.index`."""
        return self.index.get((entry, name), frozenset())

    def with_reason(self, kind: str, reason: str) -> Collection[str]:
        """Return the keys of the Models whose condition has a reason of `state.index.REASONS`."""
        return self.index.get((kind, reason), frozenset())
