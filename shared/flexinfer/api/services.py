"""Components: one row each.

What a component owns, reads, subscribes to and publishes derives from its row. Pure. Owners of conditions and
status fields, subscriptions, NATS permissions, the rights page and tests of the manifests read `SERVICES`. To
add a component, add a row and its folder under `services/flexinfer/`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from flexinfer.api.conditions import ACCEPTED, CACHED, CONDITIONS, GRANTED, PLACED, READY, STALLED, WANTED

_OF_MODELS = ("model", "workload", "group", "node")
STATE_KINDS = (*_OF_MODELS, "lease")
"""Second token of the subjects on the state stream, the watermark aside."""


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One component.

    `gates` are the condition types that its own condition depends on. `state` are the kinds of the state
    stream that it reads, `live` the prefixes of the live stream, `hints` the hints that it receives and
    `hears` the owners whose `changed` hints it receives. `publishes` are the subject prefixes that it
    publishes, beside `changed` for an owner of a condition and `history` for all.
    """

    name: str
    condition: str = ""
    fields: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    elects: bool = True
    """Whether of several replicas only the leader acts."""


_ROWS = (
    Component(
        name="watcher",
        condition=ACCEPTED,
        fields=("phase", "observedGeneration", "reason", "message"),
        state=STATE_KINDS,
        publishes=(*STATE_KINDS, "watermark"),
    ),
    Component(name="agent", hints=("sample",), publishes=("gpu",), elects=False),
    Component(
        name="placer",
        condition=PLACED,
        fields=("placement",),
        gates=(ACCEPTED,),
        state=_OF_MODELS,
        live=("gpu",),
        hears=("watcher",),
    ),
    Component(
        name="prefetcher",
        condition=CACHED,
        fields=("cache",),
        gates=(ACCEPTED, PLACED),
        state=("model", "workload"),
        hints=("wake",),
        hears=("watcher", "placer"),
        publishes=("download",),
    ),
    Component(
        name="launcher",
        condition=READY,
        fields=("endpoint", "backend"),
        gates=(ACCEPTED, PLACED, CACHED, WANTED, GRANTED),
        state=_OF_MODELS,
        live=("activity", "gpu"),
        hears=("reaper", "arbiter", "placer", "prefetcher"),
        publishes=("ready",),
    ),
    Component(
        name="reaper",
        condition=WANTED,
        fields=("lastActiveTime",),
        gates=(ACCEPTED, PLACED, CACHED),
        state=_OF_MODELS,
        live=("activity",),
        hints=("wake",),
        hears=("watcher", "placer", "prefetcher"),
    ),
    Component(
        name="arbiter",
        condition=GRANTED,
        fields=("sharedGroup",),
        gates=(ACCEPTED, PLACED, CACHED, WANTED),
        state=STATE_KINDS,
        live=("gpu", "activity"),
        hears=("reaper", "placer", "prefetcher", "launcher"),
        publishes=("sample",),
    ),
    Component(
        name="proxy",
        state=("model",),
        hints=("ready",),
        publishes=("activity", "wake"),
        elects=False,
    ),
)
SERVICES: Mapping[str, Component] = MappingProxyType({row.name: row for row in _ROWS})
OWNERS: Mapping[str, str] = MappingProxyType(
    {kind: next(row.name for row in _ROWS if row.condition == kind) for kind in CONDITIONS}
)
"""Condition type -> the component that writes it, of those that each Model has."""
WRITERS: Mapping[str, str] = MappingProxyType({**OWNERS, STALLED: OWNERS[ACCEPTED]})
"""The same with those that a Model may have."""
STATUS_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {row.name: row.fields for row in _ROWS if row.condition}
)
"""Component -> the status fields that it owns, beside its condition."""
BENCH, BENCH_FIELDS = "flexinfer-bench", ("metrics",)
"""The field manager of `flexinfer bench`, and the status fields that it owns: no component writes or reads them."""
CHANGED_RECEIVERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {row.name: row.hears for row in _ROWS if row.hears}
)
"""Receiver -> the owners whose status writes it receives a hint of."""
