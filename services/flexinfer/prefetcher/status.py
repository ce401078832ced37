"""The prefetcher's status: the Cached condition with the fields of status.cache. Pure."""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.headers import Headers
from flexinfer.api.model import CacheStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.services import SERVICES
from flexinfer.api.status import CachedStatus
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher import messages
from flexinfer.prefetcher.plan import CHECK, Plan
from flexinfer.state import actions
from flexinfer.state.actions import WriteStatus


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What status.cache has of a Job; sizes are in bytes, a rate in bytes per second."""

    phase: str = ""
    revision: str = ""
    done: int = 0
    total: int = 0
    rate: int = 0
    headers: Headers | None = None

    @property
    def eta(self) -> int:
        """The seconds that are left at this rate; 0 if that is unknown."""
        return -(-(self.total - self.done) // self.rate) if self.rate and self.done < self.total else 0


def whole(phase: str, revision: str, size: int, headers: Headers | None = None) -> JobProgress:
    """Return the progress of a Job that has brought everything, or seen that it is there."""
    return JobProgress(phase=phase, revision=revision, done=size, total=size, headers=headers)


_NO_PROGRESS = JobProgress()


def true(model: Model, reason: str, message: str) -> Condition:
    """Return the True condition of a Model's current generation."""
    return actions.true(model, conditions.CACHED, reason, message)


def false(model: Model, reason: str, message: str) -> Condition:
    """Return the False condition of a Model's current generation."""
    return actions.false(model, conditions.CACHED, reason, message)


def running(model: Model, plan: Plan, job: JobFacts | None = None) -> Condition:
    """Return the condition of a Job that has not ended; None: it was created just now."""
    reason = Reason.CHECKING if plan.kind == CHECK else Reason.FETCHING
    return false(model, reason, messages.running(model, plan, job))


def write(
    model: Model,
    plan: Plan | None,
    condition: Condition,
    progress: JobProgress = _NO_PROGRESS,
) -> list[WriteStatus]:
    """Return the write of a condition with its cache status; empty if the Model has both."""
    cache = CacheStatus(
        strategy=plan.strategy if plan is not None else "",
        ready=condition.true,
        pvc_name=plan.pvc if plan is not None else "",
        job_name=plan.job_name(model) if plan is not None and plan.digest else "",
        job_phase=progress.phase,
        revision=progress.revision,
        bytes=progress.done,
        total_bytes=progress.total,
        bytes_per_second=progress.rate,
        eta_seconds=progress.eta,
        progress=messages.progress(progress.done, progress.total, progress.eta),
        headers=progress.headers,
        message=condition.message,
    )
    status = CachedStatus(condition=condition, cache=cache)
    action = actions.write_if_changed(model, status, gates=SERVICES["prefetcher"].gates)
    if action is None:
        return []
    only_progress = conditions.same(model.condition(conditions.CACHED), condition)
    return [msgspec.structs.replace(action, quiet=only_progress)]
