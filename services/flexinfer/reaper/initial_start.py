"""Initial starts: a new Model is started once, to verify that it can serve. Pure.

They give way to everything else: one at a time per node, and none beside a start that a request waits for. In a shared group the arbiter makes
no holder leave for one, unless that holder was never requested; while it is queued there it does not use its node. A start of another Model
holds the node for as long as it makes progress: once neither Wanted nor Ready has changed for NO_PROGRESS_SECONDS it continues beside the next one.
From outside a long load cannot be told from one that hangs.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.reaper.model_state import ModelState, model_state
from flexinfer.state.observed import ObservedState

NO_PROGRESS_SECONDS = 30.0
"""How long a start that makes no progress keeps initial starts on its node waiting."""


class Wait(NamedTuple):
    """What an initial start waits for, and when that ends by itself (monotonic seconds)."""

    cause: str
    until: float = math.inf


def wait_of(item: ModelState, state: ObservedState, now: float) -> Wait | None:
    """Return what an initial start waits for; None if it may begin."""
    for gate in (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED):
        if not item.model.is_true(gate):
            return Wait(f"waiting for {gate}")
    initial = _starting(item, state, now, Reason.FIRST_START)
    other = next(((one, until) for one, until in initial if one.start_failure is None), None)
    if other is not None:
        return Wait(f"the initial start of {other[0].key} is running on node {item.node}", other[1])
    request_start = next(_starting(item, state, now, Reason.REQUESTED), None)
    if request_start is not None:
        return Wait(f"{request_start[0].key} is starting for a request on node {item.node}", request_start[1])
    return None


def _starting(
    item: ModelState, state: ObservedState, now: float, reason: Reason
) -> Iterator[tuple[ModelState, float]]:
    """Yield the other Models, by key, whose start for a reason holds the node of a Model, and until when it does at most."""
    for key in sorted(state.with_reason(conditions.WANTED, reason)):
        model = state.effective(key)
        if model is None or key == item.key:
            continue
        other = model_state(model, state, now)
        # A write in flight is a change that was not observed yet.
        changed_at = now if key in state.assumed else other.changed_at
        until = (now if changed_at is None else changed_at) + NO_PROGRESS_SECONDS
        uses_node = other.node == item.node and other.uses_node and now < until
        if other.is_wanted and not model.deleting and uses_node:
            yield other, until
