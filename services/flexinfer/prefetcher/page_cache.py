"""Page cache: the Job of strategy Memory, which keeps downloaded weights in the page cache of the Model's node. Pure.

It is created once Cached is True and no engine is being started, and exists while the Model has a node and the PVC stays: its name has a
digest of path, node and size, so that what moves is another Job. It never ends by itself. What it does not get is said in the message of
Cached, which stays True: an engine starts all the same, at the speed of the disk.
"""

from collections.abc import Iterator

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import CacheStatus, Model
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher import messages
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.memory import Memory
from flexinfer.prefetcher.plan import FETCH, KEEP, Plan
from flexinfer.prefetcher.report import failure_cause
from flexinfer.sources import fetched
from flexinfer.state.actions import RequeueAt
from flexinfer.state.observed import ObservedState


def plan_of(model: Model, plan: Plan, state: ObservedState | None = None) -> Plan | None:
    """Return the plan of the Job that keeps the weights of a Model's plan; None if none is wanted."""
    cache, cached = model.status.cache or CacheStatus(), model.condition(conditions.CACHED)
    is_recorded = (
        cached is not None and cached.true and plan.digest and cache.job_name == plan.job_name(model)
    )
    is_due = plan.kind == FETCH and plan.strategy == fetched.MEMORY and is_recorded and cache.bytes
    if not is_due or not model.is_true(conditions.PLACED) or _goes(model, plan, state):
        return None
    inputs = (plan.location.path, model.assigned_node, str(cache.bytes))
    return msgspec.structs.replace(plan, kind=KEEP, inputs=inputs, sized_by_files=False)


def _goes(model: Model, plan: Plan, state: ObservedState | None) -> bool:
    """Return whether the PVC is being deleted: it stays for as long as a Pod uses it."""
    claims = state.workload(model).claims if state is not None else ()
    return any(claim.deleting for claim in claims if claim.name == plan.pvc)


def job_of(model: Model, plan: Plan | None, state: ObservedState) -> JobFacts | None:
    """Return the Job of a plan, as observed."""
    name = plan.job_name(model) if plan is not None else ""
    return next((job for job in state.workload(model).jobs if job.name == name), None)


def message(model: Model, cached_message: str, plan: Plan | None, job: JobFacts | None) -> str:
    """Return the message of Cached with what the Job says; without one, the message alone."""
    base = cached_message.partition(messages.IN_MEMORY)[0]
    if plan is None or job is None:
        return base
    if job.address:
        return f"{base}{messages.kept(model)}"
    starts = not job.waiting or job.waiting.startswith("ContainerCreating")
    cause = failure_cause(job) if job.failed_reason else "" if starts else job.waiting
    return f"{base}{messages.not_kept(model, job, cause)}" if cause else base


def keep(
    model: Model, plan: Plan, job: JobFacts | None, memory: Memory, now: float
) -> Iterator[EnsureJob | DeleteJob | RequeueAt]:
    """Yield the creation of the Job; one that has ended is deleted to be made again, at once the first time and then with back-off."""
    ended = job is not None and bool(job.complete or job.failed_reason)
    due = _retry_at(model, plan, memory) if ended else memory.ensure_at(model.uid, plan.digest)
    if (job is not None and not ended) or (job is None and _starts(model)):
        return
    if now < due:
        yield RequeueAt(due)
    elif job is None:
        yield EnsureJob(model=model, digest=plan.digest, kind=KEEP)
    else:
        yield DeleteJob(model=model, job=job, retried=plan.digest)


def _starts(model: Model) -> bool:
    """Return whether an engine is being started: what it reads and requests comes before what is kept for the next start."""
    return model.is_true(conditions.WANTED) and not model.is_true(conditions.READY)


def _retry_at(model: Model, plan: Plan, memory: Memory) -> float:
    retries = memory.retries(model.uid, plan.digest)
    if not retries.number:
        return float("-inf")
    return retries.at + memory.retry_seconds(model.uid, plan.digest)
