"""Carries out the prefetcher's actions: creates PVCs and Jobs, and deletes Jobs.

Every effect can be repeated: the Model is read first, an existing object is used only if it belongs to this
very Model, and a deletion names the uid. What to do is `decide`'s.
"""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.labels import DEFAULT_CLASS_ANNOTATION, MODEL_LABEL, MODEL_UID_LABEL
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.prefetcher import jobs, messages, page_cache, status
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.growth import grow
from flexinfer.prefetcher.memory import EnsureFailed, Fact, JobRetried
from flexinfer.prefetcher.plan import KEEP, Plan, PrefetchSettings, plan_of, without_claim
from flexinfer.runtime.kubernetes.api import (
    CLAIMS,
    JOBS,
    MODELS,
    STORAGE_CLASSES,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    get_or_none,
)
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings, hub_of, pod_defaults_of
from flexinfer.runtime.status_writer import write_status
from flexinfer.sources import fetched
from flexinfer.state.actions import WriteStatus

log = logging.getLogger(__name__)


class NoClaimError(Exception):
    """No StorageClass makes a volume for a Model that can do without one."""


class PrerequisiteError(Exception):
    """A PVC or Job cannot be used or created; `reason` and message are those of the condition."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def settings_of(settings: Settings) -> PrefetchSettings:
    """Return the settings that shape a Job."""
    return PrefetchSettings(
        image=settings.image,
        hub=hub_of(settings),
        pods=pod_defaults_of(settings),
        images=settings.images,
    )


async def perform(runtime: Runtime, action: EnsureJob | DeleteJob) -> Sequence[AnyEvent | Fact]:
    """Carry out one action; returns what the API server replied, and what is to be remembered. Raises ApiError."""
    model = action.model
    if isinstance(action, EnsureJob):
        return await _ensure(runtime, action, settings_of(runtime.settings))
    if action.lacks:
        await grow(runtime, model, fetched.claim(model), action.lacks)
    await runtime.cluster.delete(JOBS, model.metadata.namespace, action.job.name, uid=action.job.uid)
    return [JobRetried(key=model.key, uid=model.uid, digest=action.retried)] if action.retried else ()


async def _ensure(runtime: Runtime, action: EnsureJob, settings: PrefetchSettings) -> list[AnyEvent | Fact]:
    """Create the PVC and the Job of a Model as it is now, and write the status. Raises ApiError."""
    previous = action.model
    model = await runtime.cluster.get(MODELS, previous.metadata.namespace, previous.metadata.name)
    replies: list[AnyEvent | Fact] = [events.ModelObserved(model=model)]
    plan = plan_of(model, settings)
    replaced = model.uid != previous.uid or model.deleting or not model.is_true(conditions.ACCEPTED)
    if replaced or plan is None or not plan.kind:
        return replies
    if action.kind == KEEP:
        return replies + await _kept(runtime, model, plan, settings)
    try:
        writes = await _created(runtime, model, plan, settings, action)
    except NoClaimError:
        without = without_claim(model, plan)
        writes = status.write(model, without, status.true(model, Reason.NO_CLAIM, without.note))
    except PrerequisiteError as error:
        writes = _write_failure(model, plan, error.reason, str(error))
        replies.append(EnsureFailed(key=model.key, uid=model.uid, digest=action.digest))
    except (InvalidError, ForbiddenError) as error:
        writes = _write_failure(model, plan, Reason.FETCH_FAILED, messages.rejected(plan, str(error)))
        replies.append(EnsureFailed(key=model.key, uid=model.uid, digest=action.digest))
    return replies + await _written(runtime, writes)


async def _kept(runtime: Runtime, model: Model, plan: Plan, settings: PrefetchSettings) -> list[Fact]:
    """Create the Job that keeps the weights in memory; what prevents that is remembered, and the weights stay as they are. Raises ApiError."""
    claim = await get_or_none(runtime.cluster, CLAIMS, model.metadata.namespace, plan.pvc)
    if claim is None:
        return []
    keeping, cache = page_cache.plan_of(model, plan.with_pvc(claim.metadata.uid)), model.status.cache
    if keeping is None or cache is None or claim.metadata.deleting:
        return []
    try:
        body = jobs.keeping(model, keeping, cache.bytes, settings.image)
        await _ensure_job(runtime, model, keeping.job_name(model), body)
    except (PrerequisiteError, InvalidError, ForbiddenError) as error:
        log.warning("the weights of %s are not kept in memory: %s", model.key, error)
        return [EnsureFailed(key=model.key, uid=model.uid, digest=keeping.digest)]
    return []


async def _created(
    runtime: Runtime, model: Model, plan: Plan, settings: PrefetchSettings, action: EnsureJob
) -> list[WriteStatus]:
    """Create the PVC and, once the Model is placed, the Job; returns the write of its status.

    A PVC that is to have the size of its files is created once that is listed: until then the Job is the one that lists them.

    Raises PrerequisiteError, ApiError.
    """
    plan = plan.with_pvc(await _ensure_pvc(runtime, model, plan, action.size)).first()
    if _is_verified(model, plan) or not model.is_true(conditions.PLACED):
        return []
    await _ensure_job(runtime, model, plan.job_name(model), jobs.job(model, plan, settings))
    cached = model.condition(conditions.CACHED)
    if action.keeps and cached is not None and not cached.true:
        condition = status.false(model, cached.reason, cached.message)
        return status.write(model, plan, condition, status.JobProgress(phase="Pending"))
    condition = status.running(model, plan)
    if plan.location.owned and cached is not None and cached.true:
        message = messages.remade(condition.message, plan)
        condition = msgspec.structs.replace(condition, message=message)
    return status.write(model, plan, condition, status.JobProgress(phase="Pending"))


def _write_failure(model: Model, plan: Plan, reason: Reason, message: str) -> list[WriteStatus]:
    """Return the write of a failure; without the uid of its PVC, since a Job on a PVC does not exist yet."""
    return status.write(model, plan.with_pvc(""), status.false(model, reason, message))


async def _written(runtime: Runtime, writes: Sequence[WriteStatus]) -> list[AnyEvent | Fact]:
    return [reply for action in writes for reply in await write_status(runtime, action)]


def _is_verified(model: Model, plan: Plan) -> bool:
    """Return whether the status is True by this very plan's Job."""
    cached, cache = model.condition(conditions.CACHED), model.status.cache
    return cached is not None and cached.true and cache is not None and cache.job_name == plan.job_name(model)


async def _ensure_pvc(runtime: Runtime, model: Model, plan: Plan, size: int) -> str:
    """Return the uid of the plan's PVC, and create a missing cache for files of `size` bytes; empty if the plan needs no PVC, or its files are to be listed first.

    Raises PrerequisiteError if it is missing or belongs to something else, and ApiError.
    """
    if not plan.pvc:
        return ""
    namespace, cache = model.metadata.namespace, plan.location.owned
    pvc = await get_or_none(runtime.cluster, CLAIMS, namespace, plan.pvc)
    if pvc is None:
        if not cache:
            raise PrerequisiteError(Reason.CLAIM_NOT_FOUND, messages.pvc_not_found(model, plan))
        await _require_class(runtime, model)
        if plan.sized_by_files and not size:
            return ""
        pvc = await runtime.cluster.create(CLAIMS, namespace, jobs.pvc(model, plan.pvc, size))
    if pvc.metadata.deleting:
        raise PrerequisiteError(Reason.CLAIM_NOT_FOUND, messages.pvc_deleting(plan))
    if cache and pvc.metadata.labels.get(MODEL_LABEL) != model.metadata.name:
        raise PrerequisiteError(Reason.NAME_TAKEN, messages.pvc_name_taken(plan))
    return pvc.metadata.uid


async def _require_class(runtime: Runtime, model: Model) -> None:
    """Raise PrerequisiteError if the spec names a StorageClass that does not exist: its PVC would wait without end.

    Raises NoClaimError where none is named, the cluster has no default one, and the weights can be in memory alone; and ApiError.
    """
    name = model.spec.cache.storage_class if model.spec.cache is not None else None
    try:
        if name:
            await runtime.cluster.get(STORAGE_CLASSES, "", name)
        elif fetched.strategy(model.spec) == fetched.MEMORY and not await _has_default_class(runtime):
            raise NoClaimError
    except NotFoundError:
        raise PrerequisiteError(Reason.STORAGE_CLASS_MISSING, messages.no_storage_class(name or "")) from None


async def _has_default_class(runtime: Runtime) -> bool:
    """Return whether the cluster gives a StorageClass to PVCs that name none. Raises ApiError."""
    classes = (await runtime.cluster.list(STORAGE_CLASSES)).items
    return any(one.metadata.annotations.get(DEFAULT_CLASS_ANNOTATION) == "true" for one in classes)


async def _ensure_job(runtime: Runtime, model: Model, name: str, body: dict[str, Any]) -> None:
    """Create a Job unless the Model has it.

    Raises PrerequisiteError if the Job of that name belongs to something else, ConflictError if it is of a
    deleted Model of the same name and will be deleted with it, and ApiError.
    """
    namespace = model.metadata.namespace
    try:
        await runtime.cluster.create(JOBS, namespace, body)
    except AlreadyExistsError:
        job = await runtime.cluster.get(JOBS, namespace, name)
        owner = job.metadata.labels.get(MODEL_UID_LABEL)
        if owner is None:
            raise PrerequisiteError(Reason.NAME_TAKEN, messages.job_name_taken(name)) from None
        if owner != model.uid:
            raise ConflictError(f"Job {name} belongs to a deleted Model {model.key}", 409) from None
