"""Subjects and streams: the subject of each event, and the encoding of names in subjects. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import events
from flexinfer.events.events import AnyEvent

ROOT = "flexinfer"
STATE_STREAM, LIVE_STREAM, HISTORY_STREAM, DEAD_STREAM = "FI_STATE", "FI_LIVE", "FI_HISTORY", "FI_DEAD"
LIVE_KINDS = ("gpu", "activity")
"""Second token of the subjects on the live stream: what is published again and again, and is nowhere else."""
STREAMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        STATE_STREAM: (*(f"{ROOT}.{kind}.>" for kind in STATE_KINDS), f"{ROOT}.watermark"),
        LIVE_STREAM: tuple(f"{ROOT}.{kind}.>" for kind in LIVE_KINDS),
        HISTORY_STREAM: (f"{ROOT}.history.>",),
        DEAD_STREAM: (f"{ROOT}.dead.>",),
    }
)
_PLAIN = re.compile(r"[A-Za-z0-9-]+")
_LONGEST_NAME = 253
"""That of an object in Kubernetes. What a message says may be 4 MB long, and is not kept."""


def encode(name: str) -> str:
    """Return a name as one token of a subject: letters, digits and `-` as they are, any other byte as `_xx`.

    Injective, and never empty: the empty name is `_`. Names in Kubernetes may contain dots and names of
    groups any character, which would otherwise split a subject or act as a wildcard.
    """
    return _kept(name) if len(name) <= _LONGEST_NAME else _encoded(name)


@lru_cache(maxsize=4096)
def _kept(name: str) -> str:
    return _encoded(name)


def _encoded(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    if not name:
        return "_"
    return "".join(
        c if _PLAIN.match(c) else "".join(f"_{b:02x}" for b in c.encode("utf-8", "surrogatepass"))
        for c in name
    )


def decode(part: str) -> str:
    """Return the name of a token that `encode` returned; of any other token, a name with U+FFFD in it."""
    if part == "_":
        return ""
    raw = re.sub(rb"_([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), part.encode("utf-8", "surrogatepass"))
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def subject_of(event: AnyEvent) -> str:
    """Return the subject of an event. Raises TypeError for one that is never published."""
    return ".".join((ROOT, *_tokens(event)))


def _tokens(event: AnyEvent) -> tuple[str, ...]:
    match event:
        case events.ModelObserved(model=model):
            return "model", encode(model.metadata.namespace), encode(model.metadata.name)
        case events.ModelDeleted(namespace=namespace, name=name):
            return "model", encode(namespace), encode(name)
        case events.WorkloadObserved(namespace=namespace, name=name):
            return "workload", encode(namespace), encode(name)
        case events.WorkloadDeleted(namespace=namespace, name=name):
            return "workload", encode(namespace), encode(name)
        case events.GroupObserved(group=group):
            return "group", encode(group.metadata.namespace), encode(group.metadata.name)
        case events.GroupDeleted(namespace=namespace, name=name):
            return "group", encode(namespace), encode(name)
        case events.LeaseObserved(lease=lease):
            return "lease", encode(lease.metadata.namespace), encode(lease.metadata.name)
        case events.LeaseDeleted(namespace=namespace, name=name):
            return "lease", encode(namespace), encode(name)
        case events.NodeObserved(name=name) | events.NodeDeleted(name=name):
            return "node", encode(name)
        case _:
            return _live_tokens(event)


def _live_tokens(event: AnyEvent) -> tuple[str, ...]:
    match event:
        case events.Watermark():
            return ("watermark",)
        case events.GpusObserved(node=node):
            return "gpu", encode(node)
        case events.ActivityObserved(proxy=proxy, namespace=namespace, name=name):
            return "activity", encode(proxy), encode(namespace), encode(name)
        case events.ProxyObserved(proxy=proxy):
            return "activity", encode(proxy)
        case events.HistoryRecorded(namespace=namespace, name=name):
            return "history", encode(namespace), encode(name)
        case events.DownloadObserved(namespace=namespace, name=name):
            return "download", encode(namespace), encode(name)
        case _:
            return _hint_tokens(event)


def _hint_tokens(event: AnyEvent) -> tuple[str, ...]:
    match event:
        case events.WakeRequested(namespace=namespace, name=name):
            return "wake", encode(namespace), encode(name)
        case events.StatusChanged(owner=owner, namespace=namespace, name=name):
            return "changed", owner, encode(namespace), encode(name)
        case events.EngineReady(namespace=namespace, name=name):
            return "ready", encode(namespace), encode(name)
        case events.SampleAwaited(node=node):
            return "sample", encode(node)
        case _:
            raise TypeError(f"{type(event).__name__} is never published")


def kind_of(subject: str) -> str:
    """Return the second token of a subject: `model`, `node`, `gpu`, ...; empty if it has none."""
    return subject.partition(".")[2].partition(".")[0]
