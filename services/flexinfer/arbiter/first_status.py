"""A SharedGroup from its creation to its first status: what holds devices already is on its list before anything is given out."""

from collections.abc import Sequence

from flexinfer.api import kube
from flexinfer.api.labels import HELD_FINALIZER, MANAGED_BY_LABEL, PART_OF_LABEL
from flexinfer.api.metadata import Metadata
from flexinfer.api.numbers import counted
from flexinfer.api.sharedgroup import INITIALIZED, SharedGroup, SharedGroupSpec, object_name
from flexinfer.arbiter import status
from flexinfer.arbiter.effects import Create, Initialize
from flexinfer.arbiter.lease_effects import claimed
from flexinfer.arbiter.objects import other_than, protect, put, read, record_step
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import model_uid
from flexinfer.runtime.kubernetes.api import PODS, SHARED_GROUPS, AlreadyExistsError
from flexinfer.runtime.refetch import deletion_of
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import rfc3339


async def create(runtime: Runtime, action: Create) -> Sequence[AnyEvent]:
    """Create the SharedGroup; one that is there already is returned as it is."""
    name = object_name(action.group)
    labels = {PART_OF_LABEL: "flexinfer", MANAGED_BY_LABEL: "flexinfer-arbiter"}
    metadata = Metadata(name=name, namespace=action.namespace, labels=labels, finalizers=(HELD_FINALIZER,))
    body = SharedGroup(metadata=metadata, spec=SharedGroupSpec(group=action.group))
    try:
        group = await runtime.cluster.create(SHARED_GROUPS, action.namespace, body)
    except AlreadyExistsError:
        group = await runtime.cluster.get(SHARED_GROUPS, action.namespace, name)
    return [events.GroupObserved(group=group)]


async def initialize(runtime: Runtime, action: Initialize, current: SharedGroup) -> Sequence[AnyEvent]:
    """Write to each lease of the group, read the object, put the finalizer on, then list the Pods, then write the first status.

    The list comes after the object was read: a Pod that opens its gate later is one that the launcher, which reads the object too, opened
    by a status that this write does not replace, since it carries the resourceVersion of that read.
    """
    if current.initialized or current.deleting or not current.counts:
        return [events.GroupObserved(group=current)]
    leases = await claimed(runtime, current)
    again = await read(runtime, action) if leases else current
    if again is None or (other := other_than(current, again)) or again.initialized:
        return [
            *leases,
            *([deletion_of(current)] if again is None else other or [events.GroupObserved(group=again)]),
        ]
    current = await protect(runtime, again)
    # Whatever their labels: these may have been edited.
    pods = (await runtime.cluster.list(PODS, current.metadata.namespace)).items
    stamp, turn = rfc3339(runtime), action.highest_turn
    ours = await _without_turns_of_others(runtime, current, pods)
    first = status.initialized(current, ours, action.models, turn, stamp, [one.lease for one in leases])
    latest = await put(runtime, current, first)
    record_step(
        runtime,
        latest,
        INITIALIZED,
        f"turns continue above {first.turn}; {counted(len(first.holders), 'holder')} at the start",
    )
    return [*leases, events.GroupObserved(group=latest)]


async def _without_turns_of_others(
    runtime: Runtime, current: SharedGroup, pods: Sequence[kube.Pod]
) -> Sequence[kube.Pod]:
    """Return Pods that were listed, without those of Models that hold devices of another group, which their spec has left.

    The groups are listed after the Pods: a holder that is not on the list of its group by then has no Pod any more.
    """
    groups = (await runtime.cluster.list(SHARED_GROUPS)).items
    others = [group for group in groups if group.key != current.key and group.counts]
    elsewhere = {holder.uid for group in others for holder in group.status.holders}
    return [pod for pod in pods if model_uid(pod.metadata) not in elsewhere]
