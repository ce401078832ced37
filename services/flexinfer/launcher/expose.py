"""How others reach an engine: the Model's Service, and the hint to the proxies when it becomes Ready.

The Service leads to the proxy, never past it. An object of its name that does not belong to the Model is left unchanged.
"""

import contextlib
import logging
from collections.abc import Sequence

from flexinfer.api import conditions, kube
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import model_name
from flexinfer.launcher import status
from flexinfer.launcher.effects import Announce, Expose, NameTakenError, RestoreService
from flexinfer.launcher.fence import Fences
from flexinfer.launcher.manifests import Json, LaunchSettings
from flexinfer.launcher.memory import ServiceRestored
from flexinfer.launcher.service_drift import drift, obsolete_annotations, owner_of
from flexinfer.launcher.view import view_of
from flexinfer.runtime.kubernetes.api import (
    MODELS,
    PODS,
    SERVICES,
    AlreadyExistsError,
    ApiError,
    ConflictError,
    InvalidError,
    NotFoundError,
)
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import record_transition, write_status
from flexinfer.state import actions

log = logging.getLogger(__name__)


async def expose(runtime: Runtime, action: Expose, fences: Fences) -> Sequence[AnyEvent]:
    """Create or update the Service, then write the status; a running engine is reported Ready in any case.

    Raises NameTakenError, ApiError.
    """
    try:
        await ensure_service(runtime, action.write.model, action.service)
    except NameTakenError as error:
        if not action.write.condition.true:
            raise
        log.warning("%s: %s", action.key, error)
    if action.announce is not None:
        return await announce(runtime, action.announce, fences)
    return await write_status(runtime, action.write)


async def announce(runtime: Runtime, action: Announce, fences: Fences) -> Sequence[AnyEvent]:
    """Write Ready=True, then send the proxies a hint, which they check with a read. Raises ApiError.

    From then on the engine has requests: a deletion of its Pod that is still on its way is kept off first.
    """
    write = action.write
    await fences.ensure(runtime, write.model, action.pod_uid)
    replies = await write_status(runtime, write)
    if _ready(replies):
        meta = write.model.metadata
        await runtime.bus.publish(events.EngineReady(namespace=meta.namespace, name=meta.name, uid=meta.uid))
    return replies


def _ready(replies: Sequence[AnyEvent]) -> bool:
    """Return whether the Model is Ready now: after a conflict the write may have been dropped."""
    return any(
        isinstance(reply, events.ModelObserved) and view_of(reply.model).ready.true for reply in replies
    )


async def ensure_service(runtime: Runtime, model: Model, body: Json) -> str:
    """Create the Model's Service, or update it; returns what was done, empty if it is as it should be.

    Raises NameTakenError if its name belongs to another object, ConflictError while a deleted Model of the same name still has it.
    """
    namespace, name = model.metadata.namespace, model.metadata.name
    try:
        await runtime.cluster.create(SERVICES, namespace, body)
    except AlreadyExistsError:
        existing = await runtime.cluster.get(SERVICES, namespace, name)
        owner = owner_of(existing)
        if not owner:
            raise NameTakenError(model, "Service", name) from None
        if owner != model.uid:
            await _delete_predecessor(runtime, model, existing)
        return await _update(runtime, existing, body)
    return f"Service {name} did not exist; it was created"


async def _update(runtime: Runtime, existing: kube.Service, body: Json) -> str:
    """Bring the Model's own Service up to date; labels and annotations of others stay."""
    meta, fields = existing.metadata, drift(existing, body)
    if not fields:
        return ""
    metadata = body["metadata"]
    obsolete = dict.fromkeys(obsolete_annotations(existing, body))
    change = {
        "metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "labels": metadata["labels"],
            "annotations": metadata["annotations"] | obsolete,
            "ownerReferences": metadata["ownerReferences"],
        },
        "spec": {"selector": None, **body["spec"]},
    }
    try:
        await runtime.cluster.merge(SERVICES, meta.namespace, meta.name, change)
    except InvalidError as error:
        # What was made of it cannot be changed back: it is deleted, and created by the next attempt.
        await runtime.cluster.delete(SERVICES, meta.namespace, meta.name, uid=meta.uid)
        raise ConflictError(f"Service {meta.name} cannot be changed back: {error}", 409) from error
    return f"Service {meta.name} was changed ({', '.join(fields)}); it was brought up to date"


async def restore_service(
    runtime: Runtime, action: RestoreService, settings: LaunchSettings
) -> Sequence[AnyEvent | ServiceRestored]:
    """Restore a Service that another client deleted or edited, and say so in an Event; leaves NameTaken once the names are free.

    Raises NameTakenError of a Model that does not serve. Any other failure is left to the next resync.
    """
    model, fact = action.model, ServiceRestored(key=action.model.key, uid=action.model.uid)
    view = view_of(model)
    try:
        change = await ensure_service(runtime, model, action.service)
        if view.ready.reason == Reason.NAME_TAKEN:
            return [fact, *await _leave_name_taken(runtime, model, settings)]
    except NameTakenError as error:
        if not view.ready.true:
            raise
        log.warning("%s: %s", model.key, error)
    except ApiError as error:
        log.info("%s: its Service was not restored, the next resync does it: %s", model.key, error)
    else:
        if change:
            log.warning("%s: %s", model.key, change)
            runtime.spawn_background(record_transition(runtime, model, remark(model, change)))
    return [fact]


async def _leave_name_taken(runtime: Runtime, model: Model, settings: LaunchSettings) -> Sequence[AnyEvent]:
    """Write NotStarted if neither name that the Model needs is taken any more. Raises NameTakenError, ApiError."""
    meta, name = model.metadata, model.pod_name
    with contextlib.suppress(NotFoundError):
        pod = await runtime.cluster.get(PODS, meta.namespace, name)
        if model_name(pod.metadata) != meta.name:
            raise NameTakenError(model, "Pod", name)
    write = status.not_ready(view_of(model), settings, Reason.NOT_STARTED, status.NOT_STARTED)
    return await write_status(runtime, write) if write is not None else ()


def remark(model: Model, message: str) -> Condition:
    """Return Ready as it is with a message about something else, for an Event."""
    ready = model.condition(conditions.READY)
    state, reason = (
        (ready.status, ready.reason) if ready is not None else (conditions.FALSE, Reason.NOT_STARTED)
    )
    return actions.condition(model, conditions.READY, state, reason, message)


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
