"""What to publish: how the cache differs from what the state stream holds. Pure.

The comparison is with the stream, never with a memory of what was published: a wiped or rolled-back store
heals like any other loss. `reached` is the version that the API server itself had reached after the stream was read,
by kind, where it was asked: what the stream holds above it is of before the API server was restored from a backup.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from flexinfer.api.kinds import GPU_LEASES, MODELS, NODES, SHARED_GROUPS
from flexinfer.events import codec, events, subjects
from flexinfer.events.codec import StreamEntry
from flexinfer.events.events import StateEvent
from flexinfer.watcher.cache import ClusterCache, SubjectKey

_PLURALS = {"node": NODES.plural, "group": SHARED_GROUPS.plural, "lease": GPU_LEASES.plural}
"""Kinds of subjects of which each is one object of its own; the others go by their Model."""
_Deleted: TypeAlias = type[events.ModelDeleted | events.GroupDeleted | events.LeaseDeleted]
_DELETIONS: Mapping[str, _Deleted] = MappingProxyType(
    {"model": events.ModelDeleted, "group": events.GroupDeleted, "lease": events.LeaseDeleted}
)
"""Kinds of subjects whose deletion names the uid of what was deleted."""
Versions = Mapping[str, int]
"""Plural of a kind -> resourceVersion."""
_UNKNOWN: Versions = MappingProxyType({})
_NOTHING_REACHED: Versions = MappingProxyType({"models": 0, "nodes": 0, "sharedgroups": 0, "gpuleases": 0})


def key_of(subject: str) -> SubjectKey | None:
    """Return the key of a subject of the state stream; None for one that the watcher never publishes."""
    kind, tokens = subjects.kind_of(subject), subject.split(".")[2:]
    names = [subjects.decode(token) for token in tokens]
    if kind == "node" and len(names) == 1:
        return SubjectKey(kind, "", names[0])
    if kind in ("model", "workload", "group", "lease") and len(names) == 2:  # noqa: PLR2004 -- namespace and name
        return SubjectKey(kind, names[0], names[1])
    return None


def subject_of(key: SubjectKey) -> str:
    """Return the subject of a key."""
    names = [key.namespace, key.name] if key.kind != "node" else [key.name]
    return ".".join((subjects.ROOT, key.kind, *(subjects.encode(name) for name in names)))


def pending_event(
    cache: ClusterCache,
    entries: Mapping[str, StreamEntry],
    key: SubjectKey,
    api_versions: Versions = _UNKNOWN,
) -> StateEvent | None:
    """Return the fact to publish about a subject, or its deletion; None if the stream never held a fact."""
    event = cache.event(key)
    if event is not None:
        return event
    entry = entries.get(subject_of(key))
    if entry is None or entry.body is None or _is_behind(cache, entries, key, api_versions):
        return None
    return _deletion(key, entry.body, cache)


def differing(
    cache: ClusterCache, entries: Mapping[str, StreamEntry], api_versions: Versions = _UNKNOWN
) -> set[SubjectKey]:
    """Return the subjects of which the stream does not hold what the API server holds, deletions included."""
    published_keys = {
        key for subject, entry in entries.items() if entry.body is not None and (key := key_of(subject))
    }
    return {
        key for key in published_keys | set(cache.subjects()) if _differs(cache, entries, key, api_versions)
    }


def ahead(cache: ClusterCache, entries: Mapping[str, StreamEntry]) -> Versions:
    """Return the highest version that the stream holds of each kind, where it differs and the cache is behind it."""
    highest: dict[str, int] = {}
    for key in differing(cache, entries, _NOTHING_REACHED):
        plural, version = _object_version(entries, key)
        if version > max(cache.versions.get(plural, 0), highest.get(plural, 0)):
            highest[plural] = version
    return highest


def _differs(
    cache: ClusterCache, entries: Mapping[str, StreamEntry], key: SubjectKey, api_versions: Versions
) -> bool:
    event, entry = cache.event(key), entries.get(subject_of(key))
    body = entry.body if entry is not None else None
    if event is None:
        return body is not None and not _is_behind(cache, entries, key, api_versions)
    if body is None:
        return True
    return body != codec.encode(event) and not _is_behind(cache, entries, key, api_versions)


def _is_behind(
    cache: ClusterCache, entries: Mapping[str, StreamEntry], key: SubjectKey, api_versions: Versions
) -> bool:
    """Return whether the stream holds a version that the cache has not reached: what it lacks is not deleted.

    A watcher that was suspended and reads back what its successor published must not publish that as deleted. A
    version that the API server itself has not reached is void: it was restored to a state before that.
    """
    plural, version = _object_version(entries, key)
    return cache.versions.get(plural, 0) < version <= api_versions.get(plural, version)


def _object_version(entries: Mapping[str, StreamEntry], key: SubjectKey) -> tuple[str, int]:
    """Return the kind that orders a subject, and the version of its object that the stream holds."""
    plural = _PLURALS.get(key.kind, MODELS.plural)
    of = key if key.kind in _PLURALS else key._replace(kind="model")
    entry = entries.get(subject_of(of))
    _, version = _identity(entry.body) if entry is not None and entry.body is not None else ("", 0)
    return plural, version


def _deletion(key: SubjectKey, body: bytes, cache: ClusterCache) -> StateEvent:
    if key.kind == "workload":
        return events.WorkloadDeleted(namespace=key.namespace, name=key.name)
    version = cache.versions.get(_PLURALS.get(key.kind, MODELS.plural), 0)
    if key.kind == "node":
        return events.NodeDeleted(name=key.name, version=version)
    uid, _ = _identity(body)
    return _DELETIONS[key.kind](namespace=key.namespace, name=key.name, uid=uid, version=version)


def _identity(body: bytes) -> tuple[str, int]:
    """Return the uid and the resourceVersion of the object that the stream holds; of a node the latter, of anything else neither."""
    try:
        event = codec.decode(body)
    except codec.UndecodableError:
        return "", 0
    match event:
        case (
            events.ModelObserved(model=item)
            | events.GroupObserved(group=item)
            | events.LeaseObserved(lease=item)
        ):
            return item.metadata.uid, item.metadata.version
        case events.NodeObserved(node=node):
            return "", node.version
        case _:
            return "", 0
