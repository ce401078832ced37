"""Are a Model's weights complete, and if not, what is done about it? Pure.

For each Model, the first that applies:
  (1) its spec is not accepted: False;
  (2) nothing needs to be there before the engine starts: True, with the cause;
  (3) the Job of these inputs has verified the weights before: True, as recorded in status.cache;
  (4) the Model has no node: False, waiting for Placed;
  (5) there is no Job of these inputs: create it, unless that failed a moment ago or too many run on the node;
  (6) for a PVC that is to have the size of its files, a Job lists them first, and the PVC is created as it says;
  (7) as the Job says: running, complete, or failed and created again: with back-off, and at once after a request
      or a change of the spec. While it looks again for what cannot be there, the condition stays as it is.
A condition that is True is revoked only by other inputs or a deleted PVC, never by a closed gate. What this
module does not do: choosing the Job (`plan`), its manifest (`jobs`), when it is created again (`retry`) and the
download itself (`download`, inside the Job).
"""

from collections.abc import Iterator
from typing import TypeAlias

from flexinfer.api import conditions
from flexinfer.api.model import CacheStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher import messages, page_cache, room, status, volume
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.memory import Memory
from flexinfer.prefetcher.plan import CHECK, KINDS, LIST, Plan, PrefetchSettings, plan_of
from flexinfer.prefetcher.report import failure_cause, report_of
from flexinfer.prefetcher.retry import Retry, keeps_failure, retry_of
from flexinfer.prefetcher.slots import MOST_CHECKS, has_slot
from flexinfer.sources import Volume
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

Action: TypeAlias = EnsureJob | DeleteJob | WriteStatus | RequeueAt


def write_of(action: EnsureJob | DeleteJob) -> WriteStatus | None:
    """Return the status that an effect will write, as far as other decisions count it."""
    return action.write if isinstance(action, EnsureJob) else None


def decide(
    state: ObservedState, memory: Memory, key: str, now: float, *, settings: PrefetchSettings
) -> Iterator[Action]:
    """Yield what a Model's weights need next."""
    model = state.models.get(key)
    if model is not None and not model.deleting:
        yield from _decide(model, state, memory, now, settings)


def _decide(
    model: Model, state: ObservedState, memory: Memory, now: float, settings: PrefetchSettings
) -> Iterator[Action]:
    plan = plan_of(model, settings)
    if plan is None or not model.is_true(conditions.ACCEPTED):
        yield from _not_accepted(model, plan, state, now)
        return
    claim = volume.claim_of(model, plan, state)
    plan = plan.with_pvc(claim.uid if claim is not None else "").first()
    yield from _obsolete_jobs(model, plan, state)
    if not plan.kind:
        reason = Reason.NO_CLAIM if plan.location.volume is Volume.MEMORY else Reason.PULLED_BY_ENGINE
        condition = status.true(model, reason, plan.note)
        yield from _first_write(model, state, now, status.write(model, plan, condition))
    elif plan.digest and _is_cached(model) and _cache(model).job_name == plan.job_name(model):
        yield from _as_recorded(model, plan, state, memory, now)
    elif plan.digest and not model.is_true(conditions.PLACED):
        condition = status.false(model, Reason.NOT_PLACED, messages.waiting_for_placed(plan))
        yield from _first_write(model, state, now, status.write(model, plan, condition))
    else:
        yield from _by_job(model, plan, state, memory, now)


def _not_accepted(model: Model, plan: Plan | None, state: ObservedState, now: float) -> Iterator[Action]:
    """Yield the status of a spec that is refused; one that is not judged yet changes nothing."""
    write: list[WriteStatus] = []
    if model.condition_status(conditions.ACCEPTED) == conditions.FALSE and not _is_cached(model):
        condition = status.false(model, Reason.NOT_ACCEPTED, messages.WAITING_FOR_ACCEPTED)
        write = status.write(model, plan, condition)
    yield from _first_write(model, state, now, write)


def _first_write(
    model: Model, state: ObservedState, now: float, write: list[WriteStatus]
) -> Iterator[Action]:
    """Yield a write that needs no Job, or when it is due: a first one waits for the conditions before it."""
    due = actions.first_write_due(model, conditions.CACHED, state.first_seen.get(model.uid), now)
    if due is not None:
        yield RequeueAt(due)
    else:
        yield from write


def _as_recorded(
    model: Model, plan: Plan, state: ObservedState, memory: Memory, now: float
) -> Iterator[Action]:
    """Yield the status again for the current generation: its inputs were verified by this very Job; then what keeps them in memory."""
    cached, cache = model.condition(conditions.CACHED), _cache(model)
    if cached is None:
        return
    keeping = page_cache.plan_of(model, plan, state)
    job = page_cache.job_of(model, keeping, state)
    condition = status.true(model, cached.reason, page_cache.message(model, cached.message, keeping, job))
    progress = status.whole(cache.job_phase, cache.revision, cache.bytes, cache.headers)
    writes = status.write(model, plan, condition, progress)
    yield from writes
    if keeping is not None and not writes:
        yield from page_cache.keep(model, keeping, job, memory, now)


def _by_job(model: Model, plan: Plan, state: ObservedState, memory: Memory, now: float) -> Iterator[Action]:
    """Yield what the Job of the plan says, or its creation."""
    job = page_cache.job_of(model, plan, state)
    if job is None:
        yield from _ensure(model, plan, state, memory, now)
    elif job.complete and plan.kind == LIST:
        yield from _ensure(model, plan, state, memory, now, size=report_of(job).bytes or room.UNKNOWN)
    elif job.complete:
        yield from _complete(model, plan, job)
    elif _outdated(plan, job):
        yield DeleteJob(model=model, job=job)
    elif job.failed_reason:
        fault = volume.fault(model, plan, state, memory, job) if not job.report else None
        yield from _failed(model, plan, job, retry_of(model, plan, state, memory), now, fault=fault)
    elif not keeps_failure(model, plan, memory):
        yield from _running(model, plan, job, volume.fault(model, plan, state, memory, job), memory, now)


def _running(
    model: Model, plan: Plan, job: JobFacts, fault: volume.Fault | None, memory: Memory, now: float
) -> Iterator[Action]:
    """Yield the status of a Job that has not ended: that it runs, or what is wrong with its volume once that is due."""
    if fault is not None and now < fault.at:
        yield RequeueAt(fault.at)
        fault = None
    condition = (
        status.false(model, fault.reason, fault.message) if fault else status.running(model, plan, job)
    )
    yield from status.write(model, plan, condition, _progress(model, job, memory))


def _outdated(plan: Plan, job: JobFacts) -> bool:
    """Return whether a Job has not begun, and would now be created on another node, or with other pull secrets or another RuntimeClass."""
    has_begun = bool(job.address) or not (job.waiting or not job.active)
    return not has_begun and not job.failed_reason and job.fingerprint not in ("", plan.fingerprint)


def _progress(model: Model, job: JobFacts, memory: Memory) -> status.JobProgress:
    """Return how far a Job that runs is."""
    phase = "Running" if job.active and not job.waiting else "Pending"
    progress = memory.progress_of(model.uid, job.name)
    if progress is None:
        return status.JobProgress(phase=phase)
    return status.JobProgress(
        phase=phase, done=progress.bytes, total=progress.total_bytes, rate=progress.bytes_per_second
    )


def _ensure(
    model: Model, plan: Plan, state: ObservedState, memory: Memory, now: float, *, size: int = 0
) -> Iterator[Action]:
    """Yield the creation of a Job, or what it waits for; `size`: the bytes that a missing PVC is created for.

    Whether a missing PVC exists is asked at once and then ever more rarely: its event ends the wait.
    """
    due, keeps = memory.ensure_at(model.uid, plan.digest), keeps_failure(model, plan, memory)
    if now < due:
        yield RequeueAt(due)
    elif plan.kind == CHECK and plan.digest and not keeps and not has_slot(model, state):
        condition = status.false(
            model, Reason.CHECK_QUEUED, messages.queued(model.assigned_node, MOST_CHECKS)
        )
        yield from status.write(model, plan, condition, status.JobProgress(phase="Queued"))
    else:
        yield EnsureJob(model=model, digest=plan.digest, kind=plan.kind, keeps=keeps, size=size)


def _complete(model: Model, plan: Plan, job: JobFacts) -> Iterator[Action]:
    report = report_of(job)
    complete = Reason.CACHED_UNSAFE if report.unsafe else Reason.CACHED
    reason = complete if plan.pvc else Reason.IN_IMAGE
    message = messages.contains(model, plan, report.bytes) + messages.code(report.unsafe, report.left_out)
    condition = status.true(model, reason, message)
    progress = status.whole("Succeeded", report.revision, report.bytes, report.headers)
    yield from status.write(model, plan, condition, progress)


def _failed(
    model: Model, plan: Plan, job: JobFacts, retry: Retry, now: float, *, fault: volume.Fault | None = None
) -> Iterator[Action]:
    """Yield what follows a Job that failed; `fault`: the volume that it never got."""
    report = report_of(job)
    if plan.kind == CHECK and plan.location.volume is Volume.NOTHING and not report.not_found:
        # Only the engine's own image can be asked, and it may have no shell: the engine finds out itself.
        condition = status.true(model, Reason.IN_IMAGE, messages.unchecked(plan, job.failed_reason))
        yield from status.write(model, plan, condition, status.JobProgress(phase="Failed"))
    elif retry.at is not None and now >= retry.at:
        lacks = report.lacks if plan.location.owned else 0
        yield DeleteJob(model=model, job=job, retried=plan.digest, lacks=lacks)
    else:
        if retry.at is not None:
            yield RequeueAt(retry.at)
        found_nothing = report.not_found and plan.kind == CHECK
        cause = messages.not_found(model, plan) if found_nothing else failure_cause(job)
        message = messages.failed(plan, cause, retry.seconds)
        condition = (
            status.false(model, fault.reason, fault.message)
            if fault is not None
            else status.false(model, report.condition_reason, message)
        )
        yield from status.write(model, plan, condition, status.JobProgress(phase="Failed"))


def _obsolete_jobs(model: Model, plan: Plan, state: ObservedState) -> Iterator[DeleteJob]:
    """Yield the Jobs that are not needed: those of other inputs, and one whose result is recorded.

    A Job that failed stays until it is created again. While the uid of the PVC is unknown, no Job can be told to
    have other inputs.
    """
    prefixes = tuple(f"{model.metadata.name}-{kind}-" for kind in KINDS)
    keeping = page_cache.plan_of(model, plan, state)
    current = [job.job_name(model) for job in (plan, keeping) if job is not None and job.kind]
    comparable = not plan.kind or (bool(plan.digest) and plan.kind != LIST)
    recorded_job = _cache(model).job_name if _is_cached(model) else ""
    for job in state.workload(model).jobs:
        if not job.name.startswith(prefixes):
            continue
        has_ended = job.complete or bool(job.failed_reason)
        if (comparable and job.name not in current) or (has_ended and job.name == recorded_job):
            yield DeleteJob(model=model, job=job)


def _is_cached(model: Model) -> bool:
    """Return whether the condition is True, of whatever generation."""
    cached = model.condition(conditions.CACHED)
    return cached is not None and cached.true


def _cache(model: Model) -> CacheStatus:
    return model.status.cache or CacheStatus()
