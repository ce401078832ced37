"""Making claims and Jobs, and clearing Jobs away: read first, create never adopt, delete by uid."""

from collections.abc import Sequence
from typing import Any

from flexinfer.api import conditions
from flexinfer.api.labels import MODEL_LABEL, MODEL_UID_LABEL
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.prefetcher import jobs
from flexinfer.prefetcher.decide import Discard, Prepare, say, under_way
from flexinfer.prefetcher.plan import FETCH, Plan, PrefetchSettings, plan
from flexinfer.runtime.kubernetes.api import (
    CLAIMS,
    JOBS,
    MODELS,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from flexinfer.runtime.status_writer import write_status


class UnpreparedError(Exception):
    """Nothing can be made ready: a reason and a sentence for the condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def settings_of(settings: Settings) -> PrefetchSettings:
    """Return what of the settings shapes a Job."""
    return PrefetchSettings(
        image=settings.image,
        hf_endpoint=settings.hf_endpoint,
        images=settings.images,
    )


async def perform(runtime: Runtime, action: Prepare | Discard) -> Sequence[AnyEvent]:
    """Carry out one action; returns what the API replied. Raises ApiError."""
    if isinstance(action, Prepare):
        return await _prepare(runtime, action.model, settings_of(runtime.settings))
    namespace = action.model.metadata.namespace
    await runtime.cluster.delete(JOBS, namespace, action.job.name, uid=action.job.uid)
    return ()


async def _prepare(runtime: Runtime, model: Model, settings: PrefetchSettings) -> Sequence[AnyEvent]:
    fresh = await runtime.cluster.get(MODELS, model.metadata.namespace, model.metadata.name)
    if fresh.uid != model.uid or fresh.deleting or not fresh.is_true(conditions.ACCEPTED):
        return [events.ModelObserved(model=fresh)]
    bare = plan(fresh, "", settings)
    if bare is None or not bare.job:
        return [events.ModelObserved(model=fresh)]
    try:
        wanted = plan(fresh, await _claim(runtime, fresh, bare), settings) or bare
        if _verified(fresh, wanted) or not fresh.is_true(conditions.PLACED):
            return [events.ModelObserved(model=fresh)]
        await _job(runtime, fresh, wanted, settings)
    except UnpreparedError as error:
        return await _said(runtime, fresh, bare, error.reason, str(error))
    except (InvalidError, ForbiddenError) as error:
        return await _said(runtime, fresh, bare, Reason.FETCH_FAILED, f"the API server refuses it: {error}")
    reason = Reason.FETCHING if wanted.job == FETCH else Reason.CHECKING
    return await _said(runtime, fresh, wanted, reason, under_way(wanted, ""), phase="Pending")


def _verified(fresh: Model, wanted: Plan) -> bool:
    """Tell whether what stands in the status is the verdict on this very plan."""
    cached, told = fresh.condition(conditions.CACHED), fresh.status.cache
    known = cached is not None and told is not None and told.job_name == wanted.name(fresh)
    return known and cached is not None and cached.true


async def _said(
    runtime: Runtime, fresh: Model, wanted: Plan, reason: str, message: str, **facts: Any
) -> Sequence[AnyEvent]:
    replies: list[AnyEvent] = [events.ModelObserved(model=fresh)]
    for told in say(fresh, wanted, conditions.FALSE, reason, message, **facts):
        replies += await write_status(runtime, told)
    return replies


async def _claim(runtime: Runtime, model: Model, bare: Plan) -> str:
    """Return the uid of the claim, made now if it is ours to make; empty where none is needed."""
    if not bare.claim:
        return ""
    namespace = model.metadata.namespace
    try:
        there = await runtime.cluster.get(CLAIMS, namespace, bare.claim)
    except NotFoundError:
        if not bare.location.owned:
            raise UnpreparedError(Reason.CLAIM_NOT_FOUND, _missing(model, bare)) from None
        there = await runtime.cluster.create(CLAIMS, namespace, jobs.claim(model, bare.claim))
    if bare.location.owned and there.metadata.labels.get(MODEL_LABEL) != model.metadata.name:
        raise UnpreparedError(
            Reason.NAME_TAKEN,
            f"a PersistentVolumeClaim named {bare.claim} is there already and is not of this Model; "
            "name it in spec.cache.pvcName to use it, or give the Model another name",
        )
    return there.metadata.uid


def _missing(model: Model, bare: Plan) -> str:
    namespace = model.metadata.namespace
    field = "spec.source" if not bare.location.fetched else "spec.cache.pvcName"
    return (
        f"there is no PersistentVolumeClaim {bare.claim} in namespace {namespace}; create it "
        f"(`kubectl get pvc -n {namespace}` lists those that exist) or name another in {field}"
    )


async def _job(runtime: Runtime, model: Model, wanted: Plan, settings: PrefetchSettings) -> None:
    """Make the Job, or find it made."""
    namespace, name = model.metadata.namespace, wanted.name(model)
    try:
        await runtime.cluster.create(JOBS, namespace, jobs.job(model, wanted, settings))
    except AlreadyExistsError:
        there = await runtime.cluster.get(JOBS, namespace, name)
        labels = there.metadata.labels
        if MODEL_UID_LABEL not in labels:
            raise UnpreparedError(
                Reason.NAME_TAKEN,
                f"a Job named {name} is there already and is not of this Model; delete it or rename it",
            ) from None
        if labels[MODEL_UID_LABEL] != model.uid:
            raise ConflictError(f"Job {name} is of a former {model.key} and about to go", 409) from None
