"""The ResourceClaim of an engine's Pod: created just before its gate opens, deleted with the Pod by the garbage collector.

A gated Pod reserves nothing, and may name a claim that does not exist yet: so a claim never holds a device for a start that was
overtaken. Allocation promises nothing between two Pods; who may have a shared device is the arbiter's.
"""

import logging

from flexinfer.api import kube
from flexinfer.api.conditions import clause
from flexinfer.api.labels import TEMPLATE_ANNOTATION
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.launcher.bind import Json, resource_claim
from flexinfer.launcher.effects import NameTakenError, NotCreatedError
from flexinfer.runtime.kubernetes.api import (
    PODS,
    RESOURCE_CLAIMS,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)


async def put_claim(runtime: Runtime, model: Model, pod: kube.Pod) -> None:
    """Create the claim that a gated Pod names, if it names one, for the devices of the Model's placement as it is now.

    Raises ConflictError if a predecessor has created it for other devices or another amount: a claim cannot be changed, so the Pod is deleted
    for another one. Raises NotCreatedError if the API server rejects it, as a quota does, ApiError.
    """
    for reference in pod.spec.resource_claims:
        body = resource_claim(model, pod, reference.resource_claim_name)
        try:
            await runtime.cluster.create(RESOURCE_CLAIMS, model.metadata.namespace, body)
        except AlreadyExistsError:
            await _compare(runtime, model, pod, body)
        except (InvalidError, ForbiddenError, NotFoundError) as error:
            message = f"the API server rejected its ResourceClaim: {clause(str(error))}"
            raise NotCreatedError(model, Reason.CREATE_REFUSED, message) from error


async def _compare(runtime: Runtime, model: Model, pod: kube.Pod, body: Json) -> None:
    """Return if the claim that exists is the one that this start needs; raises as `put_claim`."""
    meta, name = pod.metadata, body["metadata"]["name"]
    existing = await runtime.cluster.get(RESOURCE_CLAIMS, meta.namespace, name)
    if not any(owner.uid == meta.uid for owner in existing.metadata.owner_references):
        raise NameTakenError(model, "ResourceClaim", name)
    digest = body["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    if existing.metadata.annotations.get(TEMPLATE_ANNOTATION) != digest:
        log.info("%s: deleting Pod %s: its ResourceClaim is of an earlier placement", model.key, meta.name)
        await runtime.cluster.delete(PODS, meta.namespace, meta.name, uid=meta.uid)
        raise ConflictError(f"ResourceClaim {name} is of an earlier placement", 409)
