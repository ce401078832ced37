"""Job status: counts a Job's Pods and decides what follows: Pods to create or delete, completion, failure. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from localkube.apiserver.resources import Object

FIRST_DELAY, LONGEST_DELAY = timedelta(seconds=10), timedelta(minutes=6)
_TERMINAL_PHASES = ("Succeeded", "Failed")
_DEFAULT_LIMIT = 6


@dataclass(frozen=True, slots=True)
class JobDecision:
    """What to do for a Job.

    `failure` is a reason and its message; `requeue_at` is when to sync again; `surplus` are Pods to delete; `missing` counts Pods to create.
    """

    complete: bool = False
    failure: tuple[str, str] | None = None
    requeue_at: datetime | None = None
    surplus: tuple[Object, ...] = ()
    missing: int = 0
    suspended: bool = False


def finished(job: Object) -> bool:
    """Return whether a Job is Complete or Failed."""
    return _finish(job) is not None


def ended_at(job: Object) -> datetime:
    """Return when a finished Job ended."""
    condition = _finish(job) or {}
    return datetime.fromisoformat(condition["lastTransitionTime"])


def decide(job: Object, pods: Sequence[Object], now: datetime) -> JobDecision:
    """Return what to do for a Job that is not finished."""
    spec = job["spec"]
    active = _active(pods)
    succeeded, failed = _count(pods, "Succeeded"), _count(pods, "Failed")
    completions = int(spec.get("completions") or 1)
    deadline = _deadline(job)
    if succeeded >= completions:
        return JobDecision(complete=True, surplus=tuple(active))
    if failed > _limit(job) or _restarted_too_often(active, job):
        message = "Job has reached the specified backoff limit"
        return JobDecision(failure=("BackoffLimitExceeded", message), surplus=tuple(active))
    if deadline is not None and now >= deadline:
        message = "Job was active longer than specified deadline"
        return JobDecision(failure=("DeadlineExceeded", message), surplus=tuple(active))
    if spec.get("suspend"):
        return JobDecision(surplus=tuple(active), suspended=True)
    missing = min(int(spec.get("parallelism", 1)), completions - succeeded) - len(active)
    return _fill(pods, failed, missing, now, deadline)


def _fill(
    pods: Sequence[Object], failed: int, missing: int, now: datetime, deadline: datetime | None
) -> JobDecision:
    """Create the missing Pods, after a failure only once its back-off is over."""
    if missing <= 0:
        return JobDecision(requeue_at=deadline)
    due = _last_failure(pods) + delay(failed) if failed else now
    if due <= now:
        return JobDecision(missing=missing, requeue_at=deadline)
    return JobDecision(requeue_at=min(due, deadline) if deadline else due)


def delay(failed: int) -> timedelta:
    """Return how long to wait after the failure of that number: 10 s, doubling up to six minutes."""
    return min(FIRST_DELAY * 2.0 ** min(failed - 1, 20), LONGEST_DELAY)


def status(job: Object, pods: Sequence[Object], decision: JobDecision, time: str) -> Object:
    """Return a Job's whole status after a decision; `time` is now."""
    previous = job.get("status") or {}
    has_ended = decision.complete or decision.failure is not None
    active = [] if has_ended else _active(pods)
    fields: Object = {
        "active": len(active) + decision.missing,
        "ready": sum(map(_ready, active)),
        "succeeded": _count(pods, "Succeeded"),
        "failed": _count(pods, "Failed"),
        "terminating": len(_terminating(pods)) + len(decision.surplus),
        "startTime": "" if decision.suspended else previous.get("startTime", time),
        "conditions": [
            *_suspension(previous.get("conditions") or [], decision, time),
            *_conditions(decision, time),
        ],
        **({"completionTime": time} if decision.complete else {}),
    }
    return {key: value for key, value in fields.items() if value or key in ("ready", "terminating")}


def _suspension(previous: list[Object], decision: JobDecision, time: str) -> list[Object]:
    """Return the conditions with `Suspended` up to date; a Job that never was suspended has no such condition."""
    current = next((one for one in previous if one["type"] == "Suspended"), None)
    if current is None and not decision.suspended:
        return previous
    fields = (
        _reason("JobSuspended", "Job suspended")
        if decision.suspended
        else _reason("JobResumed", "Job resumed")
    )
    condition = {"type": "Suspended", "status": "True" if decision.suspended else "False", **fields}
    if current is not None and current["status"] == condition["status"]:
        return previous
    condition |= {"lastProbeTime": time, "lastTransitionTime": time}
    return [*(one for one in previous if one is not current), condition]


def _reason(reason: str, message: str) -> Object:
    return {"reason": reason, "message": message}


def _conditions(decision: JobDecision, time: str) -> list[Object]:
    if decision.complete:
        reason, message = "CompletionsReached", "Reached expected number of succeeded pods"
        types = ("SuccessCriteriaMet", "Complete")
    elif decision.failure is not None:
        reason, message = decision.failure
        types = ("FailureTarget", "Failed")
    else:
        return []
    fields = {"status": "True", "reason": reason, "message": message}
    return [{"type": kind, **fields, "lastProbeTime": time, "lastTransitionTime": time} for kind in types]


def _finish(job: Object) -> Object | None:
    conditions: list[Object] = (job.get("status") or {}).get("conditions") or []
    return next(
        (c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None
    )


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


def _count(pods: Sequence[Object], phase: str) -> int:
    return sum(_phase(pod) == phase for pod in pods)


def _active(pods: Sequence[Object]) -> list[Object]:
    return [p for p in pods if _phase(p) not in _TERMINAL_PHASES and "deletionTimestamp" not in p["metadata"]]


def _terminating(pods: Sequence[Object]) -> list[Object]:
    return [p for p in pods if _phase(p) not in _TERMINAL_PHASES and "deletionTimestamp" in p["metadata"]]


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _limit(job: Object) -> int:
    return int(job["spec"].get("backoffLimit", _DEFAULT_LIMIT))


def _restarted_too_often(active: Sequence[Object], job: Object) -> bool:
    """Return whether containers were restarted in place more often than backoffLimit; restartPolicy Never: False."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    statuses = [c for pod in active for c in (pod.get("status") or {}).get("containerStatuses") or ()]
    restarts = sum(int(container.get("restartCount", 0)) for container in statuses)
    return restarts >= max(_limit(job), 1)


def _deadline(job: Object) -> datetime | None:
    seconds, started_at = job["spec"].get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    if seconds is None or started_at is None:
        return None
    return datetime.fromisoformat(started_at) + timedelta(seconds=float(seconds))


def _last_failure(pods: Sequence[Object]) -> datetime:
    """Return when the latest failed Pod's last container ended; its creation if its status does not say."""
    ends = [_ended(pod) for pod in pods if _phase(pod) == "Failed"]
    return max(datetime.fromisoformat(end) for end in ends)


def _ended(pod: Object) -> str:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    ends = [c.get("state", {}).get("terminated", {}).get("finishedAt") for c in statuses]
    return max((end for end in ends if end), default=str(pod["metadata"]["creationTimestamp"]))
