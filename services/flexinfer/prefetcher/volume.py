"""What of a PVC keeps a Job from running: its volume is lost, no StorageClass makes one, or one refuses it or has not made it in time. Pure.

The Job stays meanwhile: it starts by itself when the cause goes, since Kubernetes gives a default StorageClass to waiting PVCs too:
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#retroactive-default-storageclass-assignment.
"""

from typing import NamedTuple

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher import messages
from flexinfer.prefetcher.memory import Memory
from flexinfer.prefetcher.plan import Plan
from flexinfer.state.observed import ObservedState

PENDING_SECONDS = 60.0
"""How long a provisioner may take until the wait for it is the reason."""
_VOLUMES = ("persistentvolumeclaim", "persistent volume", "storage")
"""What kube-scheduler names where a volume keeps a Pod from a node, in any case."""


class Fault(NamedTuple):
    """What keeps a Job from running, and from when on that is the reason of the condition; 0: at once."""

    reason: Reason
    message: str
    at: float = 0.0


def fault(model: Model, plan: Plan, state: ObservedState, memory: Memory, job: JobFacts) -> Fault | None:
    """Return what is wrong with the volume of a Job that does not run; None if it looks valid."""
    claim = claim_of(model, plan, state)
    if claim is None or job.address:
        return None
    cause = memory.refusal_of(model.uid, claim.uid)
    if claim.phase == "Pending" and claim.storage_class and cause:
        message = messages.pvc_refused(model, plan, claim.storage_class, cause)
        return Fault(Reason.CLAIM_PENDING, message)
    if claim.phase == "Pending" and claim.storage_class:
        return _pending(model, plan, state, job, claim)
    if not job.waiting:
        return None
    if claim.phase == "Lost":
        return Fault(Reason.CLAIM_LOST, messages.pvc_lost(model, plan))
    if claim.phase == "Pending":
        return Fault(Reason.STORAGE_CLASS_MISSING, messages.no_default_class(plan))
    return None


def _pending(
    model: Model, plan: Plan, state: ObservedState, job: JobFacts, claim: ClaimFacts
) -> Fault | None:
    """Return the fault of a volume that is to be made; None while that waits for the Pod to have a node."""
    waits_for_node = not claim.node and not any(word in job.waiting.lower() for word in _VOLUMES)
    if waits_for_node and not job.failed_reason:
        return None
    cached, since = model.condition(conditions.CACHED), state.changed(model, conditions.CACHED)
    message = messages.pvc_pending(model, plan, claim.storage_class, job.waiting)
    if job.failed_reason or (cached is not None and cached.reason == Reason.CLAIM_PENDING):
        return Fault(Reason.CLAIM_PENDING, message)
    if cached is None or since is None or cached.reason not in (Reason.FETCHING, Reason.CHECKING):
        return None  # that it runs is written first, and is what the wait is counted from
    return Fault(Reason.CLAIM_PENDING, message, since + PENDING_SECONDS)


def claim_of(model: Model, plan: Plan, state: ObservedState) -> ClaimFacts | None:
    """Return the PVC of a plan, as last observed."""
    return next((c for c in state.workload(model).claims if plan.pvc and c.name == plan.pvc), None)
