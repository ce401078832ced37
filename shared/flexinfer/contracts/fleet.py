"""Fleet: everything last observed, and `fold`, which takes in what arrives.

A Fleet is never changed in place: a batch of arrivals copies only the maps that it touches. Models and nodes are
ordered by resourceVersion, so replies of the API and messages of the bus may mix in any order; what was
seen deleted comes back only with a version after its deletion, which no deleted object ever has.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from flexinfer.contracts import events
from flexinfer.contracts.events import AnyEvent, GpusObserved, WorkloadObserved
from flexinfer.contracts.model import Model
from flexinfer.contracts.nodes import NodeFacts
from flexinfer.contracts.workload import GroupLease, PodFacts

_GONE_KEPT = 4096
HEARTBEAT_GAP = 15.0
"""Seconds of silence after which a proxy no longer counts as heard; it speaks every 5."""


class Arrival(msgspec.Struct, frozen=True):
    """An event and when it was so, in seconds of the reader's monotonic clock."""

    event: AnyEvent
    at: float


class Sample(msgspec.Struct, frozen=True):
    """A node's telemetry and when it was taken."""

    observed: GpusObserved
    at: float


class Activity(msgspec.Struct, frozen=True):
    """A proxy's word on one Model; `last` is when its last request was, `at` when it said so."""

    uid: str
    last: float
    in_flight: int
    waiting: int
    at: float


class Proxy(msgspec.Struct, frozen=True):
    """A proxy: when it was last heard, whether it said farewell, and since when it was heard without a gap."""

    heard: float
    farewell: bool
    since: float


class Held(msgspec.Struct, frozen=True):
    """Since when a group's Lease is at its step."""

    turn: int
    step: str
    at: float


class Probe(msgspec.Struct, frozen=True):
    """The last answer of an engine."""

    pod_uid: str
    healthy: bool
    detail: str
    in_flight: int | None
    at: float
    pod: PodFacts | None = None


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Everything last observed. Times are seconds of the reader's monotonic clock."""

    models: Mapping[str, Model] = {}  # key -> last observed
    workloads: Mapping[str, WorkloadObserved] = {}  # key -> its children
    leases: Mapping[str, GroupLease] = {}  # "namespace/lease name" -> the group's turn
    nodes: Mapping[str, NodeFacts] = {}  # name -> last observed
    gpus: Mapping[str, Sample] = {}  # node -> last sample
    activity: Mapping[tuple[str, str], Activity] = {}  # (key, proxy) -> traffic
    proxies: Mapping[str, Proxy] = {}  # proxy -> last heard
    wakes: Mapping[str, tuple[str, float]] = {}  # key -> (uid, when somebody asked)
    probes: Mapping[str, Probe] = {}  # key -> the engine's last answer
    seen: Mapping[str, float] = {}  # uid -> when first folded
    since: Mapping[tuple[str, str], float] = {}  # (key, condition type) -> when its verdict last changed
    lease_since: Mapping[str, Held] = {}  # "namespace/lease name" -> since when it is at its step
    written: Mapping[str, float] = {}  # key -> up to when its activity stands in its status
    gone: Mapping[str, int] = {}  # uids seen deleted, oldest first -> the version at which they were
    connected: float | None = None  # since when the bus connection stands; None while it does not

    def workload(self, model: Model) -> WorkloadObserved:
        """Return what the cluster holds for a Model; empty when nothing is known."""
        found = self.workloads.get(model.key)
        return found or WorkloadObserved(namespace=model.metadata.namespace, name=model.metadata.name)

    def lease(self, namespace: str, name: str) -> GroupLease | None:
        """Return a group's turn by the Lease's name."""
        return self.leases.get(f"{namespace}/{name}")

    def traffic(self, model: Model) -> tuple[Activity, ...]:
        """Return what each proxy says of this Model's uid."""
        return tuple(a for (key, _), a in self.activity.items() if key == model.key and a.uid == model.uid)


def fold(fleet: Fleet, arrivals: Iterable[Arrival]) -> Fleet:
    """Return the fleet after the arrivals, in their order."""
    draft = _Draft(fleet)
    for arrival in arrivals:
        draft.take(arrival.event, arrival.at)
    return draft.done()


def mark_of(subject: str, sequence: int) -> int:
    """Return the 64-bit hash of one remembered message, of which the watermark keeps sums modulo 2^64."""
    digest = hashlib.blake2b(f"{subject}@{sequence}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


class _Draft:
    """A fleet being changed: each map is copied at its first change."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._changed: dict[str, Any] = {}

    def done(self) -> Fleet:
        return msgspec.structs.replace(self._fleet, **self._changed) if self._changed else self._fleet

    def _map(self, name: str) -> Any:
        if name not in self._changed:
            self._changed[name] = dict(getattr(self._fleet, name))
        return self._changed[name]

    def _peek(self, name: str) -> Any:
        return self._changed.get(name, getattr(self._fleet, name))

    def take(self, event: AnyEvent, at: float) -> None:
        match event:
            case events.ModelObserved(model=model):
                self._model(model, at)
            case events.ModelDeleted():
                self._model_deleted(event)
            case events.WorkloadObserved():
                self._map("workloads")[event.key] = event
                self._lease(event.lease, at)
            case events.WorkloadDeleted(namespace=namespace, name=name):
                self._map("workloads").pop(f"{namespace}/{name}", None)
            case events.NodeObserved(name=name, node=node):
                known = self._peek("nodes").get(name)
                if known is None or known.uid != node.uid or known.version <= node.version:
                    self._map("nodes")[name] = node
            case events.NodeDeleted(name=name):
                self._map("nodes").pop(name, None)
            case _:
                self._passing(event, at)

    def _passing(self, event: AnyEvent, at: float) -> None:
        match event:
            case events.GpusObserved(node=node):
                self._map("gpus")[node] = Sample(event, at)
            case events.ActivityObserved():
                self._activity(event, at)
            case events.ProxyObserved(proxy=proxy, farewell=farewell):
                self._proxy(proxy, at, farewell=farewell)
            case events.WakeRequested(namespace=namespace, name=name, uid=uid):
                self._map("wakes")[f"{namespace}/{name}"] = (uid, at)
            case events.EngineProbed(
                key=key, pod_uid=pod_uid, healthy=healthy, detail=detail, in_flight=busy, pod=pod
            ):
                self._map("probes")[key] = Probe(pod_uid, healthy, detail, busy, at, pod)
            case events.LeaseObserved(lease=lease):
                self._lease(lease, at)
            case events.ActivityWritten(key=key, last=last):
                self._map("written")[key] = last
            case _:
                return  # hints, history and watermarks are not part of the picture

    def _model(self, model: Model, at: float) -> None:
        key, known = model.key, self._peek("models").get(model.key)
        if model.metadata.version <= self._peek("gone").get(model.uid, -1):
            return
        if known is not None and known.metadata.version > model.metadata.version:
            return
        if known is None or known.uid != model.uid:
            self._map("seen")[model.uid] = at
            if known is not None:
                self._bury(known.uid, model.metadata.version)
        if known is None or known.metadata.version != model.metadata.version:
            self._map("models")[key] = model
            self._verdicts(known if known is not None and known.uid == model.uid else None, model, at)

    def _verdicts(self, known: Model | None, model: Model, at: float) -> None:
        """Note when each verdict changed, as seen from here: foreign clocks are not believed."""
        for condition in model.status.conditions:
            former = known.condition(condition.type) if known is not None else None
            pair = (model.key, condition.type)
            same = former is not None and (former.status, former.reason) == (
                condition.status,
                condition.reason,
            )
            if not same and not (known is None and pair in self._peek("since")):
                self._map("since")[pair] = at

    def _model_deleted(self, event: events.ModelDeleted) -> None:
        self._bury(event.uid, event.version)
        key = f"{event.namespace}/{event.name}"
        known = self._peek("models").get(key)
        if known is None or known.uid != event.uid:
            return
        for name in ("models", "wakes", "probes", "written"):
            if key in self._peek(name):
                self._map(name).pop(key)
        for name in ("activity", "since"):
            for pair in [pair for pair in self._peek(name) if pair[0] == key]:
                self._map(name).pop(pair)

    def _bury(self, uid: str, version: int) -> None:
        gone = self._map("gone")
        gone[uid] = max(version, gone.get(uid, 0))
        if len(gone) > _GONE_KEPT:
            gone.pop(next(iter(gone)))
        if uid in self._peek("seen"):
            self._map("seen").pop(uid)

    def _lease(self, lease: GroupLease | None, at: float) -> None:
        if lease is None:
            return
        key = f"{lease.namespace}/{lease.name}"
        known = self._peek("leases").get(key)
        if known is not None and known.version > lease.version:
            return
        self._map("leases")[key] = lease
        held = self._peek("lease_since").get(key)
        if held is None or (held.turn, held.step) != (lease.turn, lease.step):
            self._map("lease_since")[key] = Held(lease.turn, lease.step, at)

    def _activity(self, event: events.ActivityObserved, at: float) -> None:
        pair = (f"{event.namespace}/{event.name}", event.proxy)
        self._map("activity")[pair] = Activity(
            event.uid, at - event.idle_seconds, event.in_flight, event.waiting, at
        )
        known = self._peek("proxies").get(event.proxy)
        if known is None or known.heard < at:
            self._proxy(event.proxy, at, farewell=False)

    def _proxy(self, name: str, at: float, *, farewell: bool) -> None:
        known = self._peek("proxies").get(name)
        unbroken = known is not None and not known.farewell and at - known.heard <= HEARTBEAT_GAP
        self._map("proxies")[name] = Proxy(at, farewell, known.since if unbroken and known else at)
