"""What of a PVC keeps a Job from running: its volume is lost, or no StorageClass makes one. Pure.

The Job stays meanwhile: it starts by itself when the cause goes, since Kubernetes gives a default StorageClass to waiting PVCs too:
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#retroactive-default-storageclass-assignment.
"""

from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher import messages
from flexinfer.prefetcher.plan import Plan
from flexinfer.state.observed import ObservedState


def fault(model: Model, plan: Plan, state: ObservedState, job: JobFacts) -> tuple[Reason, str] | None:
    """Return the reason and the message of a volume that a waiting Job will not get; None if nothing speaks against it."""
    claim = _claim(model, plan, state)
    if claim is None or not job.waiting:
        return None
    if claim.phase == "Lost":
        return Reason.CLAIM_LOST, messages.pvc_lost(model, plan)
    if claim.phase == "Pending" and not claim.storage_class:
        return Reason.STORAGE_CLASS_MISSING, messages.no_default_class(plan)
    return None


def _claim(model: Model, plan: Plan, state: ObservedState) -> ClaimFacts | None:
    return next((c for c in state.workload(model).claims if plan.pvc and c.name == plan.pvc), None)
