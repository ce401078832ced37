"""Retry: when a Job that failed is created again, and what the condition says meanwhile. Pure.

With back-off, counted from the failure; at once after a change of the spec, and after a request, at most every 10 s.
"""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import FACTS, FINAL, Reason
from flexinfer.prefetcher.memory import Memory
from flexinfer.prefetcher.plan import Plan
from flexinfer.state.observed import ObservedState

LEAST_SECONDS = 10.0
"""Between two Jobs, however many requests come."""
TOKEN_SECONDS = 60.0
"""The longest wait where a Secret can end the failure: no component may read Secrets, so a changed one is noticed only by another Job."""
_BY_TOKEN = (Reason.GATED_REPOSITORY, Reason.SECRET_NOT_FOUND)


class Retry(msgspec.Struct, frozen=True):
    """How long a failure stays, and when its Job is created again; None: once it is written."""

    seconds: float
    at: float | None


def retry_of(model: Model, plan: Plan, state: ObservedState, memory: Memory) -> Retry:
    """Return when the failed Job of a plan is created again."""
    seconds = _seconds(model, plan, memory)
    since = _failed_since(model, plan, state, memory)
    if since is None:
        return Retry(seconds, None)
    if _of_older_spec(model):
        is_retry = memory.retries(model.uid, plan.digest).number and since != state.changed(
            model, conditions.CACHED
        )
        return Retry(seconds, since + LEAST_SECONDS if is_retry else since)
    uid, requested_at = state.wakes.get(model.key, ("", 0.0))
    if uid == model.uid and requested_at > since:
        return Retry(seconds, min(since + seconds, max(requested_at, since + LEAST_SECONDS)))
    return Retry(seconds, since + seconds)


def _seconds(model: Model, plan: Plan, memory: Memory) -> float:
    seconds, cached = memory.retry_seconds(model.uid, plan.digest), model.condition(conditions.CACHED)
    return min(seconds, TOKEN_SECONDS) if cached is not None and cached.reason in _BY_TOKEN else seconds


def _failed_since(model: Model, plan: Plan, state: ObservedState, memory: Memory) -> float | None:
    """Return since when the failure is written, or its Job was created again after it; None if it is not written."""
    changed_at = state.changed(model, conditions.CACHED)
    if not _is_failure(model) or changed_at is None:
        return None
    retries = memory.retries(model.uid, plan.digest)
    return max(changed_at, retries.at) if retries.number else changed_at


def keeps_failure(model: Model, plan: Plan, memory: Memory) -> bool:
    """Return whether the condition stays while the Job runs: one that looks again for what cannot be there.

    A Model whose weights do not exist is Failed, and would seem to make progress at every look.
    """
    cached = model.condition(conditions.CACHED)
    final = cached is not None and not cached.true and cached.reason in FINAL
    retried = memory.retries(model.uid, plan.digest).number > 0
    return final and retried and memory.progress_of(model.uid, plan.job_name(model)) is None


def _is_failure(model: Model) -> bool:
    cached = model.condition(conditions.CACHED)
    if cached is None or cached.true:
        return False
    return cached.reason in Reason.__members__.values() and FACTS[Reason(cached.reason)].warning


def _of_older_spec(model: Model) -> bool:
    cached = model.condition(conditions.CACHED)
    return cached is not None and cached.observed_generation != model.metadata.generation
