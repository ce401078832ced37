"""Initial starts: a new Model is started once, to verify that it can serve. Pure.

They give way to everything else: one at a time per node, none beside a start that a request waits for, and
none that would preempt the holder of a shared group.
"""

from collections.abc import Iterable, Mapping, Sequence

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import FREED
from flexinfer.reaper.model_state import ModelState
from flexinfer.state.observed import ObservedState


def running_initial_starts(models: Iterable[ModelState]) -> dict[str, str]:
    """Return node -> key of the Model whose initial start is running there."""
    by_node: dict[str, str] = {}
    for item in models:
        initial = item.is_wanted and item.reason == Reason.FIRST_START and not item.model.deleting
        if initial and item.uses_node and item.start_failure is None:
            by_node.setdefault(item.node, item.key)
    return by_node


def queued_because(
    item: ModelState, models: Sequence[ModelState], state: ObservedState, initial_starts: Mapping[str, str]
) -> str:
    """Return what an initial start waits for, or nothing if it may begin; `initial_starts` is node -> key."""
    for gate in (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED):
        if not item.model.is_true(gate):
            return f"waiting for {gate}"
    other = initial_starts.get(item.node, item.key)
    if other != item.key:
        return f"the initial start of {other} is running on node {item.node}"
    requested = _requested_on(item, models)
    if requested:
        return f"{requested} is starting for a request on node {item.node}"
    holder = _group_holder(item.model, state)
    if holder:
        return f"{holder} holds group {item.model.spec.group}, and an initial start does not preempt"
    return ""


def _requested_on(item: ModelState, models: Iterable[ModelState]) -> str:
    """Return the key of a Model on the same node that is starting for a request, or nothing."""
    for other in models:
        requested = other.is_wanted and other.reason == Reason.REQUESTED
        if other.key != item.key and other.node == item.node and requested and other.uses_node:
            return other.key
    return ""


def _group_holder(model: Model, state: ObservedState) -> str:
    """Return the name of another Model that holds the Model's shared group, or nothing."""
    if not model.spec.group:
        return ""
    for lease in state.leases.values():
        same = lease.namespace == model.metadata.namespace and lease.group == model.spec.group
        if same and lease.step != FREED and lease.holder_uid != model.uid:
            return lease.holder
    return ""
