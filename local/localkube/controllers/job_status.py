"""Tally: what a Job's Pods amount to: how many run, succeeded and failed, and what follows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from localkube.apiserver.resources import Object

FIRST_DELAY, LONGEST_DELAY = timedelta(seconds=10), timedelta(minutes=6)
_OVER = ("Succeeded", "Failed")
_DEFAULT_LIMIT = 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done for a Job.

    `failure` is a reason and its message; `again` when to look again; `surplus` are Pods to delete; `missing` counts those to make.
    """

    complete: bool = False
    failure: tuple[str, str] | None = None
    again: datetime | None = None
    surplus: tuple[Object, ...] = ()
    missing: int = 0
    suspended: bool = False


def finished(job: Object) -> bool:
    """Tell whether a Job is Complete or Failed."""
    return _finish(job) is not None


def ended_at(job: Object) -> datetime:
    """Return when a finished Job ended."""
    condition = _finish(job) or {}
    return datetime.fromisoformat(condition["lastTransitionTime"])


def judge(job: Object, pods: Sequence[Object], now: datetime) -> Verdict:
    """Return what is to be done for a Job that is not finished."""
    spec = job["spec"]
    active = _active(pods)
    succeeded, failed = _count(pods, "Succeeded"), _count(pods, "Failed")
    wanted = int(spec.get("completions") or 1)
    deadline = _deadline(job)
    if succeeded >= wanted:
        return Verdict(complete=True, surplus=tuple(active))
    if failed > _limit(job) or _worn(active, job):
        message = "Job has reached the specified backoff limit"
        return Verdict(failure=("BackoffLimitExceeded", message), surplus=tuple(active))
    if deadline is not None and now >= deadline:
        message = "Job was active longer than specified deadline"
        return Verdict(failure=("DeadlineExceeded", message), surplus=tuple(active))
    if spec.get("suspend"):
        return Verdict(surplus=tuple(active), suspended=True)
    missing = min(int(spec.get("parallelism", 1)), wanted - succeeded) - len(active)
    return _fill(pods, failed, missing, now, deadline)


def _fill(
    pods: Sequence[Object], failed: int, missing: int, now: datetime, deadline: datetime | None
) -> Verdict:
    """Make the missing Pods, after a failure only once its delay is over."""
    if missing <= 0:
        return Verdict(again=deadline)
    due = _last_failure(pods) + delay(failed) if failed else now
    if due <= now:
        return Verdict(missing=missing, again=deadline)
    return Verdict(again=min(due, deadline) if deadline else due)


def delay(failed: int) -> timedelta:
    """Return how long to wait after the failure of that number: 10 s, doubling up to six minutes."""
    return min(FIRST_DELAY * 2.0 ** min(failed - 1, 20), LONGEST_DELAY)


def status(job: Object, pods: Sequence[Object], verdict: Verdict, time: str) -> Object:
    """Return a Job's whole status after a verdict; `time` is now."""
    former = job.get("status") or {}
    ended = verdict.complete or verdict.failure is not None
    active = [] if ended else _active(pods)
    made: Object = {
        "active": len(active) + verdict.missing,
        "ready": sum(map(_ready, active)),
        "succeeded": _count(pods, "Succeeded"),
        "failed": _count(pods, "Failed"),
        "terminating": len(_terminating(pods)) + len(verdict.surplus),
        "startTime": "" if verdict.suspended else former.get("startTime", time),
        "conditions": [
            *_suspension(former.get("conditions") or [], verdict, time),
            *_conditions(verdict, time),
        ],
        **({"completionTime": time} if verdict.complete else {}),
    }
    return {key: value for key, value in made.items() if value or key in ("ready", "terminating")}


def _suspension(former: list[Object], verdict: Verdict, time: str) -> list[Object]:
    """Return the conditions with whether the Job is suspended; one that never was has no word of it."""
    known = next((one for one in former if one["type"] == "Suspended"), None)
    if known is None and not verdict.suspended:
        return former
    told = _told("JobSuspended", "Job suspended") if verdict.suspended else _told("JobResumed", "Job resumed")
    said = {"type": "Suspended", "status": "True" if verdict.suspended else "False", **told}
    if known is not None and known["status"] == said["status"]:
        return former
    said |= {"lastProbeTime": time, "lastTransitionTime": time}
    return [*(one for one in former if one is not known), said]


def _told(reason: str, message: str) -> Object:
    return {"reason": reason, "message": message}


def _conditions(verdict: Verdict, time: str) -> list[Object]:
    if verdict.complete:
        reason, message = "CompletionsReached", "Reached expected number of succeeded pods"
        types = ("SuccessCriteriaMet", "Complete")
    elif verdict.failure is not None:
        reason, message = verdict.failure
        types = ("FailureTarget", "Failed")
    else:
        return []
    told = {"status": "True", "reason": reason, "message": message}
    return [{"type": kind, **told, "lastProbeTime": time, "lastTransitionTime": time} for kind in types]


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
    return [p for p in pods if _phase(p) not in _OVER and "deletionTimestamp" not in p["metadata"]]


def _terminating(pods: Sequence[Object]) -> list[Object]:
    return [p for p in pods if _phase(p) not in _OVER and "deletionTimestamp" in p["metadata"]]


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _limit(job: Object) -> int:
    return int(job["spec"].get("backoffLimit", _DEFAULT_LIMIT))


def _worn(active: Sequence[Object], job: Object) -> bool:
    """Tell whether containers were restarted in place too often; with restartPolicy Never they never are."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    statuses = [c for pod in active for c in (pod.get("status") or {}).get("containerStatuses") or ()]
    restarts = sum(int(container.get("restartCount", 0)) for container in statuses)
    return restarts >= max(_limit(job), 1)


def _deadline(job: Object) -> datetime | None:
    seconds, started = job["spec"].get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    if seconds is None or started is None:
        return None
    return datetime.fromisoformat(started) + timedelta(seconds=float(seconds))


def _last_failure(pods: Sequence[Object]) -> datetime:
    """Return when the latest failed Pod's last container ended; its creation when it does not say."""
    ends = [_ended(pod) for pod in pods if _phase(pod) == "Failed"]
    return max(datetime.fromisoformat(end) for end in ends)


def _ended(pod: Object) -> str:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    ends = [c.get("state", {}).get("terminated", {}).get("finishedAt") for c in statuses]
    return max((end for end in ends if end), default=str(pod["metadata"]["creationTimestamp"]))
