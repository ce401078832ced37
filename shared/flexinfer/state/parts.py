"""Parts: the maps of an observed state that is being changed, each made when it is first used. Pure."""

from collections.abc import Callable, Mapping
from typing import cast, get_origin

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.events.events import WorkloadObserved
from flexinfer.events.nodes import NodeFacts
from flexinfer.state.maps import Part, SmallMap, TreeMap
from flexinfer.state.observed import (
    Activity,
    LeaseEnd,
    ObservedState,
    Occupant,
    ProxyHeartbeat,
    Sample,
    StepSince,
)


class Parts:
    """The maps of a state by the names that they have there; an event uses few of them."""

    models: TreeMap[str, Model]
    assumed: SmallMap[str, Model]
    workloads: TreeMap[str, WorkloadObserved]
    lost_pods: SmallMap[str, frozenset[str]]
    groups: TreeMap[str, SharedGroup]
    leases: SmallMap[str, GPULease]
    lease_ends: SmallMap[str, LeaseEnd]
    holding: TreeMap[str, tuple[str, ...]]
    occupants: TreeMap[str, Mapping[str, Occupant]]
    grouped: TreeMap[str, frozenset[str]]
    nodes: SmallMap[str, NodeFacts]
    node_since: SmallMap[str, float]
    gpus: SmallMap[str, Sample]
    activity: TreeMap[str, Mapping[str, Activity]]
    proxies: SmallMap[str, ProxyHeartbeat]
    wakes: SmallMap[str, tuple[str, float]]
    first_seen: TreeMap[str, float]
    changed_at: TreeMap[str, Mapping[str, float]]
    step_since: SmallMap[tuple[str, str], StepSince]
    released_at: SmallMap[str, float]
    deleted_versions: SmallMap[str, int]
    streamed_versions: TreeMap[str, int]
    index: TreeMap[tuple[str, str], frozenset[str]]

    def __init__(self, state: ObservedState) -> None:
        self._state = state
        self._parts: dict[str, Part] = {}

    def make(self, name: str, kind: Callable[[object], Part]) -> Part:
        """Make a part that is used for the first time."""
        part = self._parts[name] = kind(getattr(self._state, name))
        setattr(self, name, part)
        return part

    def changed(self) -> dict[str, object]:
        """Return the maps with changes by name."""
        return {name: value for name, part in self._parts.items() if (value := part.changed()) is not None}


class _Unmade:
    """A part that is not made yet: an attribute of the class, which the part of the same name hides."""

    def __init__(self, name: str, kind: Callable[[object], Part]) -> None:
        self._name, self._kind = name, kind

    def __get__(self, parts: Parts, _owner: type[Parts]) -> Part:
        return parts.make(self._name, self._kind)


for _name, _kind in Parts.__annotations__.items():
    setattr(Parts, _name, _Unmade(_name, cast("Callable[[object], Part]", get_origin(_kind))))
