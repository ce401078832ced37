"""Versions: what the observed state remembers of deletions and of what the stream delivered, and its index. Pure."""

import msgspec
from immutables import Map

from flexinfer.api.model import Model
from flexinfer.state.index import grouped_on, used_nodes
from flexinfer.state.observed import ObservedState, Occupant
from flexinfer.state.parts import Parts
from flexinfer.state.precedence import streamed_group, streamed_lease

_DELETIONS_KEPT = 4096
"""How many deletions are remembered; of objects that are gone for longer, nothing is."""


class Versions(Parts):
    """The maps of a state being changed, with what every kind of object has in common."""

    def _streamed(self, key: str, version: int) -> bool:
        """Note a version that the stream delivered; tell whether it is below the one before."""
        before, versions = self.streamed_versions.read().get(key), self.streamed_versions.write()
        versions[key] = version
        return before is not None and version < before

    def _is_outdated(self, uid: str, version: int, current: int | None, *, counts: bool) -> bool:
        """Return whether an object is older than what is known: its deletion, or the version `current` of its name.

        Of an API server that was restored to an older state it `counts`, whatever is known; its deletion is then forgotten.
        """
        if counts:
            self.deleted_versions.drop(uid)
            return False
        deleted_version = self.deleted_versions.read().get(uid, -1)
        return version <= deleted_version or (current is not None and current > version)

    def _note_deleted(self, uid: str, version: int) -> None:
        versions = self.deleted_versions.write()
        versions[uid] = max(version, versions.get(uid, 0))
        if len(versions) > _DELETIONS_KEPT:
            versions.pop(next(iter(versions)))
        self.first_seen.drop(uid)
        self.changed_at.drop(uid)

    def _is_gone(self, key: str, uid: str) -> bool:
        """Return whether a Model is known to be deleted: what is heard of it late is not kept."""
        current = self.models.read().get(key)
        return uid in self.deleted_versions.read() and (current is None or current.uid != uid)

    def effective(self, key: str) -> Model | None:
        """Return a Model as it will be once the write in flight has arrived."""
        return self.assumed.read().get(key) or self.models.read().get(key)

    def note_occupant(self, key: str, before: ObservedState) -> None:
        """Note on which nodes a Model runs or starts now, and as what; in the state before it did on others, or as something else."""
        previous, model, workload = before.effective(key), self.effective(key), self.workloads.read().get(key)
        old = used_nodes(previous, before.workloads.get(key)) if previous is not None else frozenset[str]()
        new = used_nodes(model, workload) if model is not None else frozenset[str]()
        for node in old - new:
            remaining = Map(self.occupants.read().get(node, {}))
            remaining = remaining.delete(key) if key in remaining else remaining
            if remaining:
                self.occupants.write()[node] = remaining
            else:
                self.occupants.drop(node)
        if model is not None and new:
            occupant = Occupant(model, workload, self.changed_at.read().get(model.uid, {}))
            for node in new:
                self.occupants.write()[node] = Map(self.occupants.read().get(node, {})).set(key, occupant)

    def note_grouped(self, key: str, before: ObservedState) -> None:
        """Note to which node a Model of a shared group is scheduled now; in the state before it was to another, or none."""
        previous, model = before.effective(key), self.effective(key)
        old = grouped_on(previous) if previous is not None else ""
        new = grouped_on(model) if model is not None else ""
        if old == new:
            return
        remaining = self.grouped.read().get(old, frozenset()) - {key}
        if remaining:
            self.grouped.write()[old] = remaining
        else:
            self.grouped.drop(old)
        if new:
            self.grouped.write()[new] = self.grouped.read().get(new, frozenset()) | {key}

    def _move(self, key: str, old: frozenset[tuple[str, str]], new: frozenset[tuple[str, str]]) -> None:
        if old == new:
            return
        index = self.index.write()
        for entry in old - new:
            index[entry] = index.get(entry, frozenset()) - {key}
            if not index[entry]:
                del index[entry]
        for entry in new - old:
            index[entry] = index.get(entry, frozenset()) | {key}


def without_forgotten(state: ObservedState) -> ObservedState:
    """Return a state without what the stream delivered of objects whose deletion is not remembered any more.

    Every key is looked at, so it waits until there are many.
    """
    stream_versions, deletions = state.streamed_versions, state.deleted_versions
    present = len(state.models) + len(state.groups) + len(state.leases)
    if len(deletions) < _DELETIONS_KEPT or len(stream_versions) <= present + 2 * _DELETIONS_KEPT:
        return state
    present_keys = {*state.models, *map(streamed_group, state.groups), *map(streamed_lease, state.leases)}
    oldest = min(deletions.values())
    versions = {
        key: version for key, version in stream_versions.items() if key in present_keys or version >= oldest
    }
    return msgspec.structs.replace(state, streamed_versions=versions)
