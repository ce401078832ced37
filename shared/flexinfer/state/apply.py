"""apply_events: the observed state after events. Pure.

A batch of events copies only the maps that it changes. Models and nodes are ordered by resourceVersion, so replies of the API and
messages of NATS may mix in any order. What was observed as deleted comes back only with a version above that of its deletion,
which no deleted object ever has.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
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

_DELETIONS_KEPT = 4096


def apply_events(state: ObservedState, observations: Iterable[Observation]) -> ObservedState:
    """Return the state after the observations, applied in their order."""
    draft = _Draft(state)
    for observation in observations:
        draft.apply(observation.event, observation.at)
    return draft.result()


def digest(subject: str, sequence: int) -> int:
    """Return the 64-bit hash of one message of the state stream; the watermark holds their sums modulo 2^64."""
    hashed = hashlib.blake2b(f"{subject}@{sequence}".encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big")


class _Draft:
    """A state being changed: each map is copied at its first change."""

    def __init__(self, state: ObservedState) -> None:
        self._state = state
        self._changed: dict[str, Any] = {}

    def result(self) -> ObservedState:
        return msgspec.structs.replace(self._state, **self._changed) if self._changed else self._state

    def _map(self, name: str) -> Any:
        """Return a map to change."""
        if name not in self._changed:
            self._changed[name] = dict(getattr(self._state, name))
        return self._changed[name]

    def _peek(self, name: str) -> Any:
        """Return a map to read."""
        return self._changed.get(name, getattr(self._state, name))

    def apply(self, event: AnyEvent, at: float) -> None:
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
                current = self._peek("nodes").get(name)
                if current is None or current.uid != node.uid or current.version <= node.version:
                    self._map("nodes")[name] = node
            case events.NodeDeleted(name=name):
                self._map("nodes").pop(name, None)
            case _:
                self._apply_live(event, at)

    def _apply_live(self, event: AnyEvent, at: float) -> None:
        match event:
            case events.GpusObserved(node=node):
                self._map("gpus")[node] = Sample(event, at)
            case events.ActivityObserved():
                self._activity(event, at)
            case events.ProxyObserved(proxy=proxy, final=final):
                self._heartbeat(proxy, at, final=final)
            case events.WakeRequested(namespace=namespace, name=name, uid=uid):
                self._map("wakes")[f"{namespace}/{name}"] = (uid, at)
            case events.LeaseObserved(lease=lease):
                self._lease(lease, at)
            case _:
                return  # hints, history and watermarks are not part of the state

    def _model(self, model: Model, at: float) -> None:
        key, current = model.key, self._peek("models").get(model.key)
        if model.metadata.version <= self._peek("deleted_versions").get(model.uid, -1):
            return
        if current is not None and current.metadata.version > model.metadata.version:
            return
        if current is None or current.uid != model.uid:
            self._map("first_seen")[model.uid] = at
            if current is not None:
                self._note_deleted(current.uid, model.metadata.version)
        if current is None or current.metadata.version != model.metadata.version:
            self._map("models")[key] = model
            same_uid = current is not None and current.uid == model.uid
            self._conditions(current if same_uid else None, model, at)

    def _conditions(self, previous: Model | None, model: Model, at: float) -> None:
        """Note when the status or reason of each condition changed, by the reader's own clock."""
        for condition in model.status.conditions:
            before = previous.condition(condition.type) if previous is not None else None
            pair = (model.key, condition.type)
            same = before is not None and (before.status, before.reason) == (
                condition.status,
                condition.reason,
            )
            if not same and not (previous is None and pair in self._peek("changed_at")):
                self._map("changed_at")[pair] = at

    def _model_deleted(self, event: events.ModelDeleted) -> None:
        self._note_deleted(event.uid, event.version)
        key = f"{event.namespace}/{event.name}"
        current = self._peek("models").get(key)
        if current is None or current.uid != event.uid:
            return
        for name in ("models", "wakes"):
            if key in self._peek(name):
                self._map(name).pop(key)
        for name in ("activity", "changed_at"):
            for pair in [pair for pair in self._peek(name) if pair[0] == key]:
                self._map(name).pop(pair)

    def _note_deleted(self, uid: str, version: int) -> None:
        deleted = self._map("deleted_versions")
        deleted[uid] = max(version, deleted.get(uid, 0))
        if len(deleted) > _DELETIONS_KEPT:
            deleted.pop(next(iter(deleted)))
        if uid in self._peek("first_seen"):
            self._map("first_seen").pop(uid)

    def _lease(self, lease: GroupLease | None, at: float) -> None:
        if lease is None:
            return
        key = f"{lease.namespace}/{lease.name}"
        current = self._peek("leases").get(key)
        if current is not None and current.version > lease.version:
            return
        self._map("leases")[key] = lease
        step = self._peek("step_since").get(key)
        if step is None or (step.turn, step.step) != (lease.turn, lease.step):
            self._map("step_since")[key] = StepSince(lease.turn, lease.step, at)

    def _activity(self, event: events.ActivityObserved, at: float) -> None:
        pair = (f"{event.namespace}/{event.name}", event.proxy)
        last = at - event.idle_seconds
        self._map("activity")[pair] = Activity(event.uid, last, event.in_flight, event.waiting, at)
        current = self._peek("proxies").get(event.proxy)
        if current is None or current.last < at:
            self._heartbeat(event.proxy, at, final=False)

    def _heartbeat(self, proxy: str, at: float, *, final: bool) -> None:
        current = self._peek("proxies").get(proxy)
        if current is None or current.final or at - current.last > HEARTBEAT_GAP:
            self._map("proxies")[proxy] = ProxyHeartbeat(at, final, at)
        else:
            self._map("proxies")[proxy] = ProxyHeartbeat(at, final, current.since)
