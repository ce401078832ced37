"""What keeps devices from being released once a release takes too long, and the remedy. Pure."""

from collections.abc import Sequence

from flexinfer.api.group_reasons import GroupReason
from flexinfer.api.numbers import listed
from flexinfer.api.sharedgroup import RELEASING, Holder
from flexinfer.arbiter.group import Group
from flexinfer.arbiter.memory_release import Blocked, Freeing
from flexinfer.state.observed import ObservedState


def overdue(
    group: Group, holder: Holder, state: ObservedState, progress: Freeing, deadline: float
) -> Blocked | None:
    """Return why devices are not released after `deadline` seconds, and the remedy."""
    where = f"on node {holder.node}" if holder.node else "on an unknown node"
    when = f"{deadline:.0f}s after its step {holder.step} began"
    model = group.model(holder)
    pods = [pod.name for pod in state.workload(model).pods] if model is not None else []
    if holder.lease:
        return _still_used(holder, where, progress)
    if holder.step == RELEASING or pods:
        return Blocked(GroupReason.NOT_STOPPED, _not_ended(holder, pods, where, when))
    if not progress.in_use:
        return None
    return Blocked(
        GroupReason.MEMORY_IN_USE,
        f"memory of {holder.label} is still in use {where} {when}: {progress.in_use}; end the process that uses the device",
    )


def _not_ended(holder: Holder, pods: Sequence[str], where: str, when: str) -> str:
    """Return what of a stop has not ended, and what ends it."""
    if not pods:
        remedy = f"see `kubectl describe model {holder.model}` for what its stop waits for"
        return f"the stop of {holder.model} {where} has not ended {when}; {remedy}"
    if len(pods) == 1:
        return f"Pod {pods[0]} of {holder.model} {where} has not ended {when}; delete it or end its process"
    return f"Pods {listed(pods)} of {holder.model} {where} have not ended {when}; delete them or end their processes"


def _still_used(holder: Holder, where: str, progress: Freeing) -> Blocked | None:
    """Return that processes of a lease that is over still use its devices: they are named, and never ended."""
    if not progress.in_use:
        return None
    what = f"{holder.label} is over, but memory that came with it is still in use {where}: {progress.in_use}"
    return Blocked(GroupReason.MEMORY_IN_USE, f"{what}; end these processes")
