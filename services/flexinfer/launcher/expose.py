"""How others reach an engine: the Model's Service, and the hint to the proxies when it becomes Ready.

The Service leads to the proxy, never past it. An object of its name that does not belong to the Model is left unchanged.
"""

import logging
from collections.abc import Sequence

from flexinfer.api import kube
from flexinfer.api.labels import (
    LITELLM_PREFIX,
    MODEL_LABEL,
    MODEL_UID_LABEL,
    SERVICE_LABELS_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.launcher.effects import Expose, NameTakenError
from flexinfer.launcher.manifests import Json
from flexinfer.launcher.view import view_of
from flexinfer.runtime.kubernetes.api import MODELS, SERVICES, AlreadyExistsError, ConflictError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import WriteStatus

log = logging.getLogger(__name__)


async def expose(runtime: Runtime, action: Expose) -> Sequence[AnyEvent]:
    """Create or update the Service, then write the status; a running engine is reported Ready in any case.

    Raises NameTakenError, ApiError.
    """
    try:
        await ensure_service(runtime, action.write.model, action.service)
    except NameTakenError as error:
        if not action.write.condition.true:
            raise
        log.warning("%s: %s", action.key, error)
    if action.announce:
        return await announce(runtime, action.write)
    return await write_status(runtime, action.write)


async def announce(runtime: Runtime, write: WriteStatus) -> Sequence[AnyEvent]:
    """Write Ready=True, then send the proxies a hint, which they check with a read. Raises ApiError."""
    replies = await write_status(runtime, write)
    if _ready(replies):
        meta = write.model.metadata
        await runtime.bus.publish(events.EngineReady(namespace=meta.namespace, name=meta.name, uid=meta.uid))
    return replies


def _ready(replies: Sequence[AnyEvent]) -> bool:
    """Tell whether the Model is Ready now: after a conflict the write may have been dropped."""
    return any(
        isinstance(reply, events.ModelObserved) and view_of(reply.model).ready.true for reply in replies
    )


async def ensure_service(runtime: Runtime, model: Model, body: Json) -> None:
    """Create the Model's Service, or update it.

    Raises NameTakenError if its name belongs to another object, ConflictError while a deleted Model of the same name still has it.
    """
    namespace, name = model.metadata.namespace, model.metadata.name
    try:
        await runtime.cluster.create(SERVICES, namespace, body)
    except AlreadyExistsError:
        existing = await runtime.cluster.get(SERVICES, namespace, name)
        owner = existing.metadata.labels.get(MODEL_UID_LABEL)
        if owner is None or existing.metadata.labels.get(MODEL_LABEL) != name:
            raise NameTakenError(model, "Service", name) from None
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
