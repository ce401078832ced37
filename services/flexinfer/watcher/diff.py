"""What the stream should be told: how the picture differs from what the stream holds. Pure.

The comparison is with the stream, never with a memory of what was published: so a wiped or rolled-back store heals like any other loss.
"""

from collections.abc import Mapping

from flexinfer.events import codec, events, subjects
from flexinfer.events.codec import StreamEntry
from flexinfer.events.events import AnyEvent, StateEvent
from flexinfer.watcher.cache import ClusterCache, SubjectKey


def key_of(subject: str) -> SubjectKey | None:
    """Return what a subject of the state stream is about; None for one that we never publish."""
    _, kind, *names = subject.split(".")
    decoded = [subjects.decode(name) for name in names]
    if kind == "node" and len(decoded) == 1:
        return SubjectKey(kind, "", decoded[0])
    if kind in ("model", "workload") and len(decoded) == 2:  # noqa: PLR2004 -- namespace and name
        return SubjectKey(kind, decoded[0], decoded[1])
    return None


def pending_event(
    picture: ClusterCache, held: Mapping[str, StreamEntry], about: SubjectKey
) -> StateEvent | None:
    """Return the fact to publish about something: how it looks, or that it is gone; None when nothing was ever said."""
    observed = picture.event(about)
    if observed is not None:
        return observed
    known = held.get(subject_of(about))
    if known is None or known.body is None or _behind(picture, held, about):
        return None
    return _deletion(about, known.body, picture)


def differing(picture: ClusterCache, held: Mapping[str, StreamEntry]) -> set[SubjectKey]:
    """Return everything about which the stream does not hold what the API holds; deletions are inferred."""
    known = {about for subject, was in held.items() if was.body is not None and (about := key_of(subject))}
    return {about for about in known | set(picture.abouts()) if _differs(picture, held, about)}


def subject_of(about: SubjectKey) -> str:
    """Return the subject that facts about something travel on."""
    names = [about.namespace, about.name] if about.kind != "node" else [about.name]
    return ".".join((subjects.ROOT, about.kind, *(subjects.encode(name) for name in names)))


def _differs(picture: ClusterCache, held: Mapping[str, StreamEntry], about: SubjectKey) -> bool:
    observed, known = picture.event(about), held.get(subject_of(about))
    if observed is None:
        return known is not None and known.body is not None and not _behind(picture, held, about)
    if known is None or known.body is None:
        return True
    return known.body != codec.encode(observed) and not _behind(picture, held, about)


def _behind(picture: ClusterCache, held: Mapping[str, StreamEntry], about: SubjectKey) -> bool:
    """Tell whether the stream knows of a version that the picture has not come to: what it lacks is then late, not gone.

    So a watcher that was paused, and reads back what its successor published, does not call that deleted.
    """
    if about.kind == "node":
        return _version(held.get(subject_of(about))) > picture.versions.get("nodes", 0)
    model = subject_of(about._replace(kind="model"))
    return _version(held.get(model)) > picture.versions.get("models", 0)


def _version(known: StreamEntry | None) -> int:
    """Return the resourceVersion of a Model or Node that the stream holds; 0 for anything else."""
    match _decoded(known.body) if known is not None and known.body is not None else None:
        case events.ModelObserved(model=model):
            return model.metadata.version
        case events.NodeObserved(node=node):
            return node.version
        case _:
            return 0


def _decoded(body: bytes) -> AnyEvent | None:
    try:
        return codec.decode(body)
    except codec.UndecodableError:
        return None


def _deletion(about: SubjectKey, body: bytes, picture: ClusterCache) -> StateEvent:
    if about.kind == "workload":
        return events.WorkloadDeleted(namespace=about.namespace, name=about.name)
    if about.kind == "node":
        return events.NodeDeleted(name=about.name, version=picture.versions.get("nodes", 0))
    version = picture.versions.get("models", 0)
    return events.ModelDeleted(namespace=about.namespace, name=about.name, uid=_uid(body), version=version)


def _uid(body: bytes) -> str:
    held = _decoded(body)
    return held.model.uid if isinstance(held, events.ModelObserved) else ""
