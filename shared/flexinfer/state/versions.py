"""Versions: what the observed state remembers of deletions and of what the stream delivered, and its index. Pure."""

from flexinfer.state.index import busy_after
from flexinfer.state.observed import ObservedState
from flexinfer.state.parts import Parts

_DELETIONS_KEPT = 4096


class Versions(Parts):
    """The maps of a state being changed, with what every kind of object has in common."""

    def __init__(self, state: ObservedState) -> None:
        super().__init__(state)
        self._busy = state.busy

    def _streamed(self, key: str, version: int) -> bool:
        """Note a version that the stream delivered; tell whether it is below the one before."""
        before, streamed = self.streamed_versions.read().get(key), self.streamed_versions.write()
        streamed[key] = version
        return before is not None and version < before

    def _is_outdated(self, uid: str, version: int, current: int | None, *, counts: bool) -> bool:
        """Tell whether an object is older than what is known: its deletion, or the version `current` of its name.

        Of an API server that was restored to an older state it `counts`, whatever is known; its deletion is then forgotten.
        """
        if counts:
            self.deleted_versions.drop(uid)
            return False
        deleted = self.deleted_versions.read().get(uid, -1)
        return version <= deleted or (current is not None and current > version)

    def _note_deleted(self, uid: str, version: int) -> None:
        deleted = self.deleted_versions.write()
        deleted[uid] = max(version, deleted.get(uid, 0))
        if len(deleted) > _DELETIONS_KEPT:
            deleted.pop(next(iter(deleted)))
        self.first_seen.drop(uid)
        self.changed_at.drop(uid)

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
        self._busy = busy_after(self._busy, old ^ new, index)
