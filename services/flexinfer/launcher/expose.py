"""How others reach an engine: the Model's Service, and the hint to the proxies when it becomes Ready.

The Service leads to the proxy, never past it. An object of its name that does not belong to the Model is left unchanged.
"""

import logging
from collections.abc import Sequence

from flexinfer.api import conditions, kube
from flexinfer.api.labels import (
    LITELLM_PREFIX,
    MODEL_LABEL,
    MODEL_UID_LABEL,
    SERVICE_LABELS_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.launcher import status
from flexinfer.launcher.manifests import Json, LaunchSettings, service
from flexinfer.launcher.view import view_of
from flexinfer.runtime.kubernetes.api import MODELS, SERVICES, AlreadyExistsError, ConflictError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import WriteStatus

log = logging.getLogger(__name__)


class NameTakenError(Exception):
    """An object of the needed name exists and does not belong to the Model."""

    def __init__(self, kind: str, namespace: str, name: str) -> None:
        super().__init__(
            f"a {kind} named {name} exists and does not belong to this Model; "
            f"delete it (kubectl delete {kind.lower()} {name} -n {namespace}) or rename the Model"
        )


async def expose(runtime: Runtime, write: WriteStatus, settings: LaunchSettings) -> Sequence[AnyEvent]:
    """Bring the Service in line with the spec, then write the status; a running engine is reported Ready in any case. Raises ApiError."""
    try:
        await ensure_service(runtime, write.model, settings)
    except NameTakenError as error:
        if not write.condition.true:
            return await write_refusal(runtime, write.model, settings, Reason.NAME_TAKEN, str(error))
        log.warning("%s: %s", write.key, error)
    return await announce(runtime, write)


async def announce(runtime: Runtime, write: WriteStatus) -> Sequence[AnyEvent]:
    """Write the status; if Ready turned True by it, send the proxies a hint, which they check with a read. Raises ApiError."""
    replies = await write_status(runtime, write)
    turned_true = write.condition.true and not view_of(write.model).ready.true
    if turned_true and _written(replies, write):
        meta = write.model.metadata
        await runtime.bus.publish(events.EngineReady(namespace=meta.namespace, name=meta.name, uid=meta.uid))
    return replies


def _written(replies: Sequence[AnyEvent], write: WriteStatus) -> bool:
    """Tell whether the write took place: after a conflict it may have been dropped."""
    return any(
        isinstance(reply, events.ModelObserved)
        and conditions.same(reply.model.condition(conditions.READY), write.condition)
        for reply in replies
    )


async def write_refusal(
    runtime: Runtime, model: Model, settings: LaunchSettings, reason: Reason, message: str
) -> Sequence[AnyEvent]:
    """Write why an object could not be created. Raises ApiError."""
    write = status.not_ready(view_of(model), settings, reason, message)
    return await write_status(runtime, write) if write is not None else ()


async def ensure_service(runtime: Runtime, model: Model, settings: LaunchSettings) -> None:
    """Create the Model's Service, or update it.

    Raises NameTakenError if its name belongs to another object, ConflictError while a deleted Model of the same name still has it.
    """
    body = service(model, settings)
    namespace, name = model.metadata.namespace, model.metadata.name
    try:
        await runtime.cluster.create(SERVICES, namespace, body)
    except AlreadyExistsError:
        existing = await runtime.cluster.get(SERVICES, namespace, name)
        owner = existing.metadata.labels.get(MODEL_UID_LABEL)
        if owner is None or existing.metadata.labels.get(MODEL_LABEL) != name:
            raise NameTakenError("Service", namespace, name) from None
        if owner != model.uid:
            await _delete_predecessor(runtime, model, existing)
        else:
            await _update(runtime, existing, body)


async def _update(runtime: Runtime, existing: kube.Service, body: Json) -> None:
    """Bring the Model's own Service up to date; annotations of others stay."""
    meta, annotations = existing.metadata, body["metadata"]["annotations"]
    if meta.annotations.get(TEMPLATE_ANNOTATION) == annotations[TEMPLATE_ANNOTATION]:
        return
    obsolete = {key: None for key in meta.annotations if _managed(key) and key not in annotations}
    change = {
        "metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "annotations": annotations | obsolete,
        },
        "spec": body["spec"],
    }
    await runtime.cluster.merge(SERVICES, meta.namespace, meta.name, change)


def _managed(annotation: str) -> bool:
    return annotation.startswith(f"{LITELLM_PREFIX}/") or annotation == SERVICE_LABELS_ANNOTATION


async def _delete_predecessor(runtime: Runtime, model: Model, existing: kube.Service) -> None:
    """Delete the Service of a deleted Model of this name, which the garbage collector has not reached yet.

    Raises ConflictError in any case: the next attempt creates the new one.
    """
    meta = existing.metadata
    current = await runtime.cluster.get(MODELS, model.metadata.namespace, model.metadata.name)
    # This process may itself be the one that is late: then the Service belongs to the Model that exists now.
    if current.uid == model.uid and not current.deleting:
        await runtime.cluster.delete(SERVICES, meta.namespace, meta.name, uid=meta.uid)
    raise ConflictError(f"Service {meta.name} belongs to another Model of that name", 409)
