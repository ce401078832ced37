"""Initial starts: a new Model is started once, to verify that it can serve. Pure.

They give way to everything else: one at a time per node, none beside a start that a request waits for, and
none that would preempt the holder of a shared group.
"""

from collections.abc import Iterator

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import FREED
from flexinfer.reaper.model_state import ModelState, model_state
from flexinfer.state.observed import ObservedState


def queued_because(item: ModelState, state: ObservedState, now: float) -> str:
    """Return what an initial start waits for, or nothing if it may begin."""
    for gate in (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED):
        if not item.model.is_true(gate):
            return f"waiting for {gate}"
    initial = _starting(item, state, now, Reason.FIRST_START)
    other = next((one for one in initial if one.start_failure is None), None)
    if other is not None:
        return f"the initial start of {other.key} is running on node {item.node}"
    requested = next(_starting(item, state, now, Reason.REQUESTED), None)
    if requested is not None:
        return f"{requested.key} is starting for a request on node {item.node}"
    holder = _group_holder(item.model, state)
    if holder:
        return f"{holder} holds group {item.model.spec.group}, and an initial start does not preempt"
    return ""


def _starting(item: ModelState, state: ObservedState, now: float, reason: Reason) -> Iterator[ModelState]:
    """Yield the other Models, by key, whose start for a reason uses the node of a Model."""
    for key in sorted(state.with_reason(conditions.WANTED, reason)):
        model = state.effective(key)
        if model is None or key == item.key:
            continue
        other = model_state(model, state, now)
        if other.is_wanted and not model.deleting and other.node == item.node and other.uses_node:
            yield other


def _group_holder(model: Model, state: ObservedState) -> str:
    """Return the name of another Model that holds the Model's shared group, or nothing."""
    if not model.spec.group:
        return ""
    for lease in state.leases.values():
        same = lease.namespace == model.metadata.namespace and lease.group == model.spec.group
        if same and lease.step != FREED and lease.holder_uid != model.uid:
            return lease.holder
    return ""
