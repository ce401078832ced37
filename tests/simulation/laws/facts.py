"""What laws read from objects of the store. Which object grants a device, and how it says so, is known here alone."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from flexinfer.api.sharedgroup import (
    FREED,
    GRANTED,
    RELEASING,
    STOPPED,
    SharedGroup,
    SharedGroupSpec,
    object_name,
)
from tests.simulation.laws.base import Object

GROUP_KIND = "sharedgroups"
"""The plural name of the kind that grants devices."""
NEXT = {FREED: GRANTED, GRANTED: RELEASING, RELEASING: STOPPED, STOPPED: FREED}


class Grant(NamedTuple):
    """A holder of a shared group: the step of its turn, and the node and devices that it was granted, with the memory of each."""

    group: str
    uid: str
    turn: int
    step: str
    node: str
    devices: Mapping[str, int] = {}
    lease: str = ""


def grants_of(group_object: Object | None) -> Mapping[str, Grant]:
    """Return who holds a shared group, by uid, from the object of the store that grants it.

    A Model that has given the device back is no longer among them.
    """
    if group_object is None:
        return {}
    group = msgspec.convert(group_object, SharedGroup)
    return {
        h.uid: Grant(
            group.name, h.uid, h.turn, h.step, h.node, {d.uuid: d.memory_mb for d in h.devices}, h.lease
        )
        for h in group.status.holders
    }


def policy_of(group_object: Object) -> SharedGroupSpec:
    """Return the policy of a shared group, from the object of the store that grants it."""
    return msgspec.convert(group_object, SharedGroup).spec


def is_initialized(group_object: Object | None) -> bool:
    """Return whether the arbiter has looked at what runs: before, holders are found as they are."""
    return group_object is not None and msgspec.convert(group_object, SharedGroup).initialized


def group_object_name(group: str) -> str:
    """Return the name of the object that grants a group."""
    return object_name(group)


def group_of(model: Object) -> str:
    """Return the shared group that a Model names; empty for none."""
    return str((model["spec"].get("gpu") or {}).get("shared", ""))


def always_runs(model: Object) -> bool:
    """Return whether a Model is never scaled to zero."""
    return not (model["spec"].get("serverless") or {}).get("enabled", True)


def is_kept_waiting(model: Object, models: Iterable[Object]) -> bool:
    """Return whether another member of a Model's group always runs: it leaves the devices to no other."""
    group, uid = group_of(model), model["metadata"]["uid"]
    others = (other for other in models if other["metadata"]["uid"] != uid)
    return bool(group) and any(group_of(other) == group and always_runs(other) for other in others)


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
