"""The indices of the observed state: which Models an event about something else may concern. Pure.

`ObservedState.index` maps ("group", "namespace/group"), ("node", name), (condition type, reason) and the entries
below to keys of Models. A decision on one Model must not walk all of them: what it needs to find is added here.
"""

from collections.abc import Iterator

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.events import WorkloadObserved

REASONS = frozenset(
    {
        (conditions.CACHED, Reason.CHECKING),
        (conditions.CACHED, Reason.CHECK_QUEUED),
        (conditions.PLACED, Reason.NO_NODE_FITS),
        (conditions.READY, Reason.DRAINING),
        (conditions.READY, Reason.LOADING),
        (conditions.WANTED, Reason.FIRST_START),
        (conditions.WANTED, Reason.FIRST_START_QUEUED),
        (conditions.WANTED, Reason.REQUESTED),
    }
)
"""The reasons by which Models are found. Each is one that a Model leaves again: an index of thousands of idle
Models would be copied whenever one of them changes."""
UNPLACED = (conditions.PLACED, "")
"""The Models that are not placed."""


SCHEDULED, STARTING, OCCUPYING = "scheduled", "starting", "occupying"
"""With a node: the Models scheduled to it; those of them that should run and that no Pod of theirs counts on a
node yet; and the Models, scheduled to it or not, with a Pod there that has not ended."""
UNGRANTED = "ungranted"
"""With a node, and with no name for all of them: the Models of a shared group that should run and are not granted its devices."""


def entries(model: Model, workload: WorkloadObserved | None = None) -> frozenset[tuple[str, str]]:
    """Return the entries of the index under which a Model with its workload stands."""
    pods = workload.pods if workload is not None else ()
    occupancies = ((OCCUPYING, pod.node) for pod in pods if pod.node and not pod.ended)
    return frozenset((*_entries(model), *_on_its_node(model, workload), *occupancies))


def used_nodes(model: Model, workload: WorkloadObserved | None) -> frozenset[str]:
    """Return the nodes on which a Model runs or starts: where it is OCCUPYING or STARTING."""
    nodes = (
        {pod.node for pod in workload.pods if pod.node and not pod.ended} if workload is not None else set()
    )
    node = scheduled_to(model)
    return frozenset({*nodes, node} if node and is_starting(model, workload) else nodes)


def grouped_on(model: Model) -> str:
    """Return the node that a Model of a shared group, by spec or status, is scheduled to; empty if there is none."""
    shared = model.status.shared_group
    in_group = bool(model.spec.group) or (shared is not None and bool(shared.group))
    return scheduled_to(model) if in_group else ""


def scheduled_to(model: Model) -> str:
    """Return the node that a Model is scheduled to; empty if there is none."""
    placement = model.status.placement
    if placement is None:
        return ""
    placed = model.condition(conditions.PLACED)
    return placement.node if placed is not None and placed.true else ""


def should_run(model: Model) -> bool:
    """Return whether a Model should run now, or as soon as other conditions allow it."""
    wanted = model.condition(conditions.WANTED)
    return wanted.true if wanted is not None else not model.spec.serverless.enabled


def is_starting(model: Model, workload: WorkloadObserved | None) -> bool:
    """Return whether a Model should run and has no Pod on a node."""
    bound = workload is not None and any(pod.node and not pod.ended for pod in workload.pods)
    return not bound and not model.deleting and should_run(model)


def _on_its_node(model: Model, workload: WorkloadObserved | None) -> Iterator[tuple[str, str]]:
    node = scheduled_to(model)
    if not node:
        return
    yield SCHEDULED, node
    if is_starting(model, workload):
        yield STARTING, node


def _entries(model: Model) -> Iterator[tuple[str, str]]:
    namespace, status = model.metadata.namespace, model.status
    if model.spec.group and should_run(model) and not model.is_true(conditions.GRANTED):
        yield from ((UNGRANTED, name) for name in {"", model.assigned_node})
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
