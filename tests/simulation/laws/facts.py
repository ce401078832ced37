"""What laws read from objects of the store. Which object grants a device, and how it says so, is known here alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from flexinfer.events.workload import FREED, GRANTED, RELEASING, STOPPED, group_lease, lease_name
from flexinfer.runtime.kubernetes.api import LEASES
from tests.simulation.laws.base import Object

GROUP_KIND = "leases"
"""The plural name of the kind that grants devices."""
NEXT = {FREED: GRANTED, GRANTED: RELEASING, RELEASING: STOPPED, STOPPED: FREED}


class Grant(NamedTuple):
    """A holder of a shared group: the step of its turn, and the node that it was granted on."""

    group: str
    uid: str
    turn: int
    step: str
    node: str


def grants_of(group_object: Object | None) -> Mapping[str, Grant]:
    """Return who holds a shared group, by uid, from the object of the store that grants it; empty for other objects."""
    if group_object is None:
        return {}
    lease = group_lease(msgspec.convert(group_object, LEASES.type))
    if lease is None:
        return {}
    return {lease.holder_uid: Grant(lease.group, lease.holder_uid, lease.turn, lease.step, lease.node)}


def group_object_name(group: str) -> str:
    """Return the name of the object that grants a group."""
    return lease_name(group)


def condition(model: Object, kind: str) -> Mapping[str, Any]:
    """Return a condition of a Model; empty if it was never written."""
    conditions = (model.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), {})


def gates(pod: Object) -> list[str]:
    """Return the names of the scheduling gates of a Pod."""
    return [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]


def key_of(obj: Object) -> str:
    """Return namespace and name of an object."""
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
