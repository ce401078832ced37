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
    ProxyHeartbeat,
    Sample,
    StepSince,
    Tenant,
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
    tenants: TreeMap[str, Mapping[str, Tenant]]
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

    def __getattr__(self, name: str) -> object:
        """Make a part that is used for the first time."""
        if name not in _KINDS:
            raise AttributeError(name)
        part = self._parts[name] = _KINDS[name](getattr(self._state, name))
        setattr(self, name, part)
        return part

    def changed(self) -> dict[str, object]:
        """Return the maps with changes by name."""
        return {name: value for name, part in self._parts.items() if (value := part.changed()) is not None}


_KINDS: dict[str, Callable[[object], Part]] = {
    name: cast("Callable[[object], Part]", get_origin(kind)) for name, kind in Parts.__annotations__.items()
}
"""The kind of each part."""
