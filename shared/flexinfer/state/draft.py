"""Draft: an observed state being changed, event by event. Pure.

Only the maps that change are copied. Which event wins where two are about one object is decided here.
"""

from collections.abc import Mapping

import msgspec

from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import GRANTED, SharedGroup
from flexinfer.events import events
from flexinfer.events.nodes import NodeFacts
from flexinfer.state.index import entries
from flexinfer.state.leases import Leases
from flexinfer.state.observed import (
    HEARTBEAT_GAP,
    Activity,
    Observation,
    ObservedState,
    ProxyHeartbeat,
    StepSince,
)
from flexinfer.state.precedence import covers, moved, newer_sample, pods_lost, streamed_group
from flexinfer.state.released import released_at
from flexinfer.state.versions import without_forgotten

_PROXY_KEPT_SECONDS = 600.0
"""How long a proxy that went silent is remembered: its traffic is a part of a Model's for as long."""


class Draft(Leases):
    """A state being changed; `previous` are the Models before a replay, with which conditions are compared."""

    def __init__(self, state: ObservedState, previous: Mapping[str, Model] | None = None) -> None:
        super().__init__(state)
        self._previous = {} if previous is None else previous
        self._leaving, self._suppressed = state.leaving, state.suppressed
        self._moved = dict[str, None]()  # Models of which something has changed that counts on a node

    def result(self, state: ObservedState) -> ObservedState:
        """Return the state with the maps that were changed."""
        for key in self._moved:
            self.note_occupant(key, state)
            self.note_grouped(key, state)
        changes: dict[str, object] = {**self.changed()}
        if (self._leaving, self._suppressed) != (state.leaving, state.suppressed):
            changes |= {"leaving": self._leaving, "suppressed": self._suppressed}
        if not changes:
            return state
        after = msgspec.structs.replace(state, **changes)
        return without_forgotten(after) if after.deleted_versions is not state.deleted_versions else after

    def apply(self, observation: Observation) -> None:
        """Apply an event of the state stream, or else a live one."""
        event, at = observation.event, observation.at
        match event:
            case events.ModelObserved(model=model):
                self._model(model, at, reply=observation.reply)
            case events.ModelRestored(model=model):
                self._restore(model, at)
            case events.ModelDeleted():
                self._model_deleted(event, reply=observation.reply)
            case events.WorkloadObserved():
                self._workload(event.key, event)
            case events.WorkloadDeleted(namespace=namespace, name=name):
                self._workload(f"{namespace}/{name}", None)
            case events.GroupObserved(group=group) | events.GroupRestored(group=group):
                self._group(
                    group, at, reply=observation.reply, counts=isinstance(event, events.GroupRestored)
                )
            case events.GroupDeleted():
                self._group_deleted(event, reply=observation.reply)
            case events.NodeObserved(name=name, node=node):
                self._node(name, node, at, reply=observation.reply)
            case events.NodeDeleted(name=name):
                self.nodes.drop(name)
                self.node_since.drop(name)
                self.gpus.drop(name)
            case _:
                self._apply_other(observation)

    def _apply_other(self, observation: Observation) -> None:
        event, at = observation.event, observation.at
        if self._apply_lease(observation):
            return
        match event:
            case events.GpusObserved(node=node):
                self.gpus.write()[node] = newer_sample(self.gpus.read().get(node), event, at)
            case events.ActivityObserved():
                self._activity(event, at)
            case events.ProxyObserved():
                self._heartbeat(event.proxy, at, final=event.final, version=event.version)
            case events.WakeRequested(namespace=namespace, name=name, uid=uid) if not self._is_gone(
                f"{namespace}/{name}", uid
            ):
                self.wakes.write()[f"{namespace}/{name}"] = (uid, at)
            case _:
                return  # hints, history and watermarks are not part of the state

    def assume(self, model: Model) -> None:
        """Count a Model as it will be once the write in flight has arrived."""
        self._reindex(model.key, self.effective(model.key), model)
        self.assumed.write()[model.key] = model
        self._moved[model.key] = None

    def settle(self, key: str) -> None:
        """Count a Model as observed again: its write has ended."""
        if key in self.assumed.read():
            self._reindex(key, self.assumed.read()[key], self.models.read().get(key))
            self.assumed.drop(key)
            self._moved[key] = None

    def _workload(self, key: str, workload: events.WorkloadObserved | None) -> None:
        """Take the workload of a Model, which may be unknown yet."""
        before, model = self.workloads.read().get(key), self.effective(key)
        if workload is not None:
            self.workloads.write()[key] = workload
        else:
            self.workloads.drop(key)
        if model is not None:
            self._moved[key] = None
            self.lose(key, before)
            self._move(key, entries(model, before), entries(model, workload))

    def lose(self, key: str, before: events.WorkloadObserved | None) -> None:
        """Note the Pods that a Model had and has no more: what was read of them earlier is void."""
        if pods := pods_lost(before, self.workloads.read().get(key)):
            self.lost_pods.write()[key] = pods

    def _reindex(self, key: str, before: Model | None, after: Model | None) -> None:
        """Move a Model to where it is found from now on."""
        workload = self.workloads.read().get(key)
        old = entries(before, workload) if before is not None else frozenset()
        new = entries(after, workload) if after is not None else frozenset()
        self._move(key, old, new)

    def _node(self, name: str, node: NodeFacts, at: float, *, reply: bool) -> None:
        """Apply a node; a stream delivers its versions in their order, also those of a restored API server."""
        if name not in self.node_since.read():
            self.node_since.write()[name] = at
        old = self.nodes.read().get(name)
        if not reply or old is None or old.uid != node.uid or old.version <= node.version:
            self.nodes.write()[name] = node

    def _model(self, model: Model, at: float, *, reply: bool) -> None:
        """Apply a Model unless something newer is known.

        A stream delivers the versions of an object in their order: one below the version that it delivered before
        means that the API server was restored to an older state, which then counts.
        """
        key, version = model.key, model.metadata.version
        current = self.models.read().get(key)
        if not reply and self._streamed(key, version):
            self._restore(model, at)
            return
        if version <= self.deleted_versions.read().get(model.uid, -1):
            self._suppressed |= set() if reply else {key}
            return
        if current is None or current.metadata.version < version:
            self._put(current, model, at)

    def _restore(self, model: Model, at: float) -> None:
        """Apply a Model of an API server that was restored to an older state, whatever is known of it."""
        self.deleted_versions.drop(model.uid)
        self._put(self.models.read().get(model.key), model, at)

    def _put(self, current: Model | None, model: Model, at: float) -> None:
        if current is not None and current.uid != model.uid:
            self._note_deleted(current.uid, model.metadata.version)
            self.assumed.drop(model.key)
        if model.uid not in self.first_seen.read():
            self.first_seen.write()[model.uid] = at
        if model.key not in self.assumed.read():
            self._reindex(model.key, current, model)
        self.models.write()[model.key] = model
        self._moved[model.key] = None
        self._suppressed -= {model.key}
        previous = current if current is not None else self._previous.get(model.key)
        self._conditions(previous if previous is not None and previous.uid == model.uid else None, model, at)

    def _conditions(self, previous: Model | None, model: Model, at: float) -> None:
        """Note when status or reason of each condition changed, by the reader's own clock."""
        previous_times = self.changed_at.read().get(model.uid, {})
        new_times = {
            c.type: at
            for c in model.status.conditions
            if c.type not in previous_times or moved(previous, model, c)
        }
        if new_times:
            self.changed_at.write()[model.uid] = {**previous_times, **new_times}

    def _model_deleted(self, event: events.ModelDeleted, *, reply: bool) -> None:
        key = f"{event.namespace}/{event.name}"
        if not reply:
            self._streamed(key, event.version)
            self._suppressed -= {key}
        current = self.models.read().get(key)
        if current is not None and covers(event, current.uid, current.metadata.version):
            self._reindex(key, self.effective(key), None)
            self._moved[key] = None
            for part in (self.models, self.assumed, self.wakes, self.activity, self.lost_pods):
                part.drop(key)
            self._note_deleted(current.uid, event.version)
        if event.uid:
            self._note_deleted(event.uid, event.version)

    def _group(self, group: SharedGroup, at: float, *, reply: bool, counts: bool) -> None:
        """Apply a SharedGroup unless something newer is known; what the stream, or `counts`, takes back counts, as for a Model."""
        version, current = group.metadata.version, self.groups.read().get(group.key)
        restored = not reply and self._streamed(streamed_group(group.key), version)
        cached_version = current.metadata.version if current is not None else None
        if self._is_outdated(group.metadata.uid, version, cached_version, counts=restored or counts):
            return
        release_time = released_at(current, group, self.step_since.read(), at)
        if release_time is not None:
            self.released_at.write()[group.key] = release_time
        self._reindex_group(group.key, current, group)
        self.groups.write()[group.key] = group
        for holder in group.status.holders:
            step, pair = (group.metadata.uid, holder.turn, holder.step), (group.key, holder.uid)
            since = self.step_since.read().get(pair)
            if since is None or (since.group, since.turn, since.step) != step:
                self.step_since.write()[pair] = StepSince(*step, at)

    def _group_deleted(self, event: events.GroupDeleted, *, reply: bool) -> None:
        key = f"{event.namespace}/{event.name}"
        if not reply:
            self._streamed(streamed_group(key), event.version)
        current = self.groups.read().get(key)
        if current is not None and covers(event, current.metadata.uid, current.metadata.version):
            self._reindex_group(key, current, None)
            self.groups.drop(key)
            self.released_at.drop(key)
            self._note_deleted(current.metadata.uid, event.version)
        if event.uid:
            self._note_deleted(event.uid, event.version)

    def _reindex_group(self, key: str, before: SharedGroup | None, after: SharedGroup | None) -> None:
        """Note who holds devices of the group from now on, and whether one of them is about to leave."""
        old = {holder.uid for holder in before.status.holders} if before is not None else set()
        holders = after.status.holders if after is not None and after.counts else ()
        new = {holder.uid for holder in holders}
        for uid in old - new:
            self.step_since.drop((key, uid))
            self._hold(uid, {*self.holding.read().get(uid, ())} - {key})
        for uid in new - old:
            self._hold(uid, {*self.holding.read().get(uid, ()), key})
        leaving = any(holder.step != GRANTED for holder in holders)
        if leaving != (key in self._leaving):
            self._leaving = self._leaving | {key} if leaving else self._leaving - {key}

    def _hold(self, uid: str, keys: set[str]) -> None:
        if keys:
            self.holding.write()[uid] = tuple(sorted(keys))
        else:
            self.holding.drop(uid)

    def _activity(self, event: events.ActivityObserved, at: float) -> None:
        key = f"{event.namespace}/{event.name}"
        report = Activity(
            event.uid, at - max(0.0, event.idle_seconds), event.in_flight, event.waiting, at, event.version
        )
        current = self.proxies.read().get(event.proxy)
        if current is None or current.last < at:
            self._heartbeat(event.proxy, at, final=False)
        if self._is_gone(key, event.uid):
            return
        proxies = self.proxies.read()
        reports = {
            p: a for p, a in self.activity.read().get(key, {}).items() if p in proxies and a.uid == event.uid
        }
        self.activity.write()[key] = {**reports, event.proxy: report}

    def _heartbeat(self, proxy: str, at: float, *, final: bool, version: int | None = None) -> None:
        current = self.proxies.read().get(proxy) or ProxyHeartbeat(at, final=True, since=at)
        at = max(at, current.last)  # an age may be too high: what is delivered later is not older
        gap = current.final or at - current.last > HEARTBEAT_GAP
        since = at if gap else current.since
        proxies = self.proxies.write()
        versions = (current.version, current.version_at) if version is None else (version, at)
        proxies[proxy] = ProxyHeartbeat(at, final, since, *versions)
        for name in [name for name, one in proxies.items() if at - one.last > _PROXY_KEPT_SECONDS]:
            del proxies[name]
