"""apply_events: the observed state after events. Pure.

A batch of events copies only the maps that it changes. Models and nodes are ordered by resourceVersion, so
replies of the API server and messages of NATS may mix in any order. What was observed as deleted comes back
only with a version above that of its deletion, which no deleted object ever has.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import NodeFacts
from flexinfer.events.workload import GroupLease
from flexinfer.state.observed import (
    HEARTBEAT_GAP,
    Activity,
    Observation,
    ObservedState,
    ProxyHeartbeat,
    Sample,
    StepSince,
)

K = TypeVar("K")
V = TypeVar("V")
_DELETIONS_KEPT = 4096


def apply_events(state: ObservedState, observations: Iterable[Observation]) -> ObservedState:
    """Return the state after the observations, applied in their order; the same object if nothing changed."""
    draft = _Draft(state)
    for observation in observations:
        draft.apply(observation.event, observation.at)
    return draft.result(state)


def digest(subject: str, sequence: int) -> int:
    """Return the 64-bit hash of one message of the state stream; a watermark holds their sums modulo 2^64."""
    hashed = hashlib.blake2b(f"{subject}@{sequence}".encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big")


class _Map(Generic[K, V]):
    """A map that is copied at its first change."""

    def __init__(self, original: Mapping[K, V]) -> None:
        self._original = original
        self.copy: dict[K, V] | None = None

    def read(self) -> Mapping[K, V]:
        """Return the map with all changes."""
        return self._original if self.copy is None else self.copy

    def write(self) -> dict[K, V]:
        """Return the map to change it."""
        if self.copy is None:
            self.copy = dict(self._original)
        return self.copy

    def drop(self, key: K) -> None:
        """Remove a key, if the map has it."""
        if key in self.read():
            del self.write()[key]


class _Draft:
    """A state being changed."""

    def __init__(self, state: ObservedState) -> None:
        self.models = _Map(state.models)
        self.workloads = _Map(state.workloads)
        self.leases = _Map(state.leases)
        self.nodes = _Map(state.nodes)
        self.gpus = _Map(state.gpus)
        self.activity = _Map(state.activity)
        self.proxies = _Map(state.proxies)
        self.wakes = _Map(state.wakes)
        self.first_seen = _Map(state.first_seen)
        self.changed_at = _Map(state.changed_at)
        self.step_since = _Map(state.step_since)
        self.deleted_versions = _Map(state.deleted_versions)

    def result(self, state: ObservedState) -> ObservedState:
        """Return the state with the maps that were changed."""
        changed = {name: part.copy for name, part in vars(self).items() if part.copy is not None}
        return msgspec.structs.replace(state, **changed) if changed else state

    def apply(self, event: AnyEvent, at: float) -> None:
        """Apply an event of the state stream, or else a live one."""
        match event:
            case events.ModelObserved(model=model):
                self._model(model, at)
            case events.ModelDeleted():
                self._model_deleted(event)
            case events.WorkloadObserved():
                self.workloads.write()[event.key] = event
                self._lease(event.lease, at)
            case events.WorkloadDeleted(namespace=namespace, name=name):
                self.workloads.drop(f"{namespace}/{name}")
            case events.NodeObserved(name=name, node=node):
                self._node(name, node)
            case events.NodeDeleted(name=name):
                self.nodes.drop(name)
            case _:
                self._apply_live(event, at)

    def _apply_live(self, event: AnyEvent, at: float) -> None:
        match event:
            case events.GpusObserved(node=node):
                self.gpus.write()[node] = Sample(event, at - max(0.0, event.age_seconds))
            case events.ActivityObserved():
                self._activity(event, at)
            case events.ProxyObserved(proxy=proxy, final=final):
                self._heartbeat(proxy, at, final=final)
            case events.WakeRequested(namespace=namespace, name=name, uid=uid):
                self.wakes.write()[f"{namespace}/{name}"] = (uid, at)
            case events.LeaseObserved(lease=lease):
                self._lease(lease, at)
            case _:
                return  # hints, history and watermarks are not part of the state

    def _node(self, name: str, node: NodeFacts) -> None:
        current = self.nodes.read().get(name)
        if current is None or current.uid != node.uid or current.version <= node.version:
            self.nodes.write()[name] = node

    def _model(self, model: Model, at: float) -> None:
        key, version = model.key, model.metadata.version
        current = self.models.read().get(key)
        if version <= self.deleted_versions.read().get(model.uid, -1):
            return
        if current is not None and current.metadata.version > version:
            return
        if current is None or current.uid != model.uid:
            self.first_seen.write()[model.uid] = at
            if current is not None:
                self._note_deleted(current.uid, version)
        if current is None or current.metadata.version != version:
            self.models.write()[key] = model
            same_uid = current is not None and current.uid == model.uid
            self._conditions(current if same_uid else None, model, at)

    def _conditions(self, previous: Model | None, model: Model, at: float) -> None:
        """Note when status or reason of each condition changed, by the reader's own clock."""
        for condition in model.status.conditions:
            before = previous.condition(condition.type) if previous is not None else None
            pair = (model.key, condition.type)
            same = before is not None and (before.status, before.reason) == (
                condition.status,
                condition.reason,
            )
            if not same and not (previous is None and pair in self.changed_at.read()):
                self.changed_at.write()[pair] = at

    def _model_deleted(self, event: events.ModelDeleted) -> None:
        self._note_deleted(event.uid, event.version)
        key = f"{event.namespace}/{event.name}"
        current = self.models.read().get(key)
        if current is None or current.uid != event.uid:
            return
        self.models.drop(key)
        self.wakes.drop(key)
        for pair in [pair for pair in self.activity.read() if pair[0] == key]:
            self.activity.drop(pair)
        for pair in [pair for pair in self.changed_at.read() if pair[0] == key]:
            self.changed_at.drop(pair)

    def _note_deleted(self, uid: str, version: int) -> None:
        deleted = self.deleted_versions.write()
        deleted[uid] = max(version, deleted.get(uid, 0))
        if len(deleted) > _DELETIONS_KEPT:
            deleted.pop(next(iter(deleted)))
        self.first_seen.drop(uid)

    def _lease(self, lease: GroupLease | None, at: float) -> None:
        if lease is None:
            return
        key = f"{lease.namespace}/{lease.name}"
        current = self.leases.read().get(key)
        if current is not None and current.version > lease.version:
            return
        self.leases.write()[key] = lease
        step = self.step_since.read().get(key)
        if step is None or (step.turn, step.step) != (lease.turn, lease.step):
            self.step_since.write()[key] = StepSince(lease.turn, lease.step, at)

    def _activity(self, event: events.ActivityObserved, at: float) -> None:
        pair = (f"{event.namespace}/{event.name}", event.proxy)
        last = at - event.idle_seconds
        self.activity.write()[pair] = Activity(event.uid, last, event.in_flight, event.waiting, at)
        current = self.proxies.read().get(event.proxy)
        if current is None or current.last < at:
            self._heartbeat(event.proxy, at, final=False)

    def _heartbeat(self, proxy: str, at: float, *, final: bool) -> None:
        current = self.proxies.read().get(proxy)
        gap = current is None or current.final or at - current.last > HEARTBEAT_GAP
        since = at if gap or current is None else current.since
        self.proxies.write()[proxy] = ProxyHeartbeat(at, final, since)
