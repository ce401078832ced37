"""What the observed state holds depends on what there is, not on what there was."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_group, a_holder, a_lease, a_model, a_node, a_pod, running

LIVES, _TOGETHER = 3_500, 100
_REMEMBERED = {"deleted_versions": 4_096, "streamed_versions": 2 * 4_096, "proxies": 601}
"""What is remembered of the deleted, for those that are late or restored, and of the proxies that were heard in the last ten minutes."""


def life(number: int) -> Iterator[AnyEvent]:
    """Yield what is heard of a Model, its group, a lease, a node and a proxy, from when each came to when it went, and what is heard too late."""
    name, version = f"m{number}", 10 * number
    model = a_model(name, version=version, conditions=["Accepted"])
    shared = a_group(a_holder(name), name=name, uid=f"uid-group-{name}", version=version)
    lease = a_lease(name, uid=f"uid-lease-{name}", version=version)
    node = a_node(name)
    requests = events.ActivityObserved(
        proxy=name, namespace="default", name=name, uid=model.uid, idle_seconds=0.0, in_flight=1, waiting=0
    )
    wake = events.WakeRequested(namespace="default", name=name, uid=model.uid)
    yield from (events.NodeObserved(name=name, node=node), events.GpusObserved(node=name, boot="b", sample=1))
    yield from (events.ModelObserved(model=model), events.LeaseObserved(lease=lease), requests, wake)
    yield from (events.GroupObserved(group=shared), running(model, a_pod(model, node=name)))
    gone: dict[str, Any] = {"namespace": "default", "name": name, "version": version + 1}
    yield events.WorkloadDeleted(namespace="default", name=name)
    yield events.GroupDeleted(**gone, uid=shared.metadata.uid)
    yield events.LeaseDeleted(**gone, uid=lease.uid)
    yield events.ModelDeleted(**gone, uid=model.uid)
    yield events.NodeDeleted(name=name)
    yield from (requests, wake)


def test_what_came_and_went_is_not_kept() -> None:
    """Models that are made and deleted all day cost no memory that grows."""
    state = ObservedState(connected_since=NOW)
    for first in range(0, LIVES, _TOGETHER):
        lives = range(first, first + _TOGETHER)
        heard = [Observation(event, NOW + number) for number in lives for event in life(number)]
        state = apply_events(state, heard)
    sizes = {
        field: len(value)
        for field, value in msgspec.structs.asdict(state).items()
        if isinstance(value, Mapping | frozenset)
    }
    assert {field: size for field, size in sizes.items() if size > _REMEMBERED.get(field, 0)} == {}
