"""Which of two facts about one thing counts: a deletion or the object, one sample or the other. Pure."""

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.events import events
from flexinfer.state.observed import ObservedState, Sample


def covers(
    deletion: events.ModelDeleted | events.GroupDeleted | events.LeaseDeleted, uid: str, version: int
) -> bool:
    """Return whether an object was deleted: the one that a deletion names, and any of its name that is older.

    A deletion at a version need not have seen each that was there before it, nor what its uid was.
    """
    return uid == deletion.uid or version < deletion.version


def moved(previous: Model | None, model: Model, condition: Condition) -> bool:
    """Return whether status or reason of a condition is not as it was; not if nothing is known of before.

    Granted of another shared group is another one, whatever its reason: a place in one queue is none in the other.
    """
    if previous is None:
        return False
    before = previous.condition(condition.type)
    other = condition.type == conditions.GRANTED and _group_of(previous) != _group_of(model)
    return other or before is None or (before.status, before.reason) != (condition.status, condition.reason)


def _group_of(model: Model) -> str:
    """Return the shared group that a Model's status is about; empty if none."""
    return model.status.shared_group.group if model.status.shared_group is not None else ""


def newer_sample(current: Sample | None, event: events.GpusObserved, at: float) -> Sample:
    """Return a sample that arrived at a time; the same one again is as old as it was: a replay may not know its age."""
    sample = Sample(event, at - max(0.0, event.age_seconds))
    if current is None or (current.observed.boot, current.observed.sample) != (event.boot, event.sample):
        return sample
    return Sample(event, max(sample.at, current.at))


def streamed_group(key: str) -> str:
    """Return under which key the version of a SharedGroup that the stream delivered is kept, beside those of Models."""
    return f"group/{key}"


def streamed_lease(key: str) -> str:
    """Return under which key the version of a GPULease that the stream delivered is kept."""
    return f"lease/{key}"


def streamed_object(state: ObservedState, key: str) -> Model | SharedGroup | GPULease | None:
    """Return what is observed under a key of `streamed_versions`, `namespace/name` of a Model; None if nothing is."""
    _, _, rest = key.partition("/")
    if "/" not in rest:
        return state.models.get(key)
    return state.groups.get(rest) if key == streamed_group(rest) else state.leases.get(rest)


def pods_lost(
    before: events.WorkloadObserved | None, after: events.WorkloadObserved | None
) -> frozenset[str]:
    """Return the uids of the Pods that a workload had and has no more."""
    had, has = (
        {pod.uid for pod in workload.pods} if workload is not None else set() for workload in (before, after)
    )
    return frozenset(had - has)
