"""The indices of the observed state: which Models an event about something else may concern. Pure.

`ObservedState.index` maps ("group", "namespace/group"), ("node", name) and (condition type, reason) to keys of
Models. A decision on one Model must not walk all of them: what it needs to find is added here.
"""

from collections.abc import Iterator

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason

REASONS = frozenset(
    {
        (conditions.READY, Reason.DRAINING),
        (conditions.WANTED, Reason.FIRST_START),
        (conditions.WANTED, Reason.FIRST_START_QUEUED),
        (conditions.WANTED, Reason.REQUESTED),
    }
)
"""The reasons by which Models are found. Each is one that a Model leaves again: an index of thousands of idle
Models would be copied whenever one of them changes."""
UNPLACED = (conditions.PLACED, "")
"""The Models that are not placed."""


def entries(model: Model) -> frozenset[tuple[str, str]]:
    """Return the entries of the index under which a Model stands."""
    return frozenset(_entries(model))


def _entries(model: Model) -> Iterator[tuple[str, str]]:
    namespace, status = model.metadata.namespace, model.status
    if model.spec.group:
        yield "group", f"{namespace}/{model.spec.group}"
    if status.shared_group is not None and status.shared_group.group:
        yield "group", f"{namespace}/{status.shared_group.group}"
    if status.placement is not None and status.placement.node:
        yield "node", status.placement.node
    if not model.is_true(conditions.PLACED):
        yield UNPLACED
    for condition in status.conditions:
        if (condition.type, condition.reason) in REASONS:
            yield condition.type, condition.reason
