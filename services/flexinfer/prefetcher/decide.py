"""Are a Model's weights there, and if not, what is done about it? Pure.

For each Model, the first that applies:
  (1) its spec is not accepted: no;
  (2) nothing needs to be there before the engine starts: yes, and why;
  (3) what it needs was verified already, by a Job of this very name: yes;
  (4) no Job of that name exists: prepare one, once there is a home;
  (5) the Job says it: under way, done, not there, or failed and tried again.
A verdict that is True is taken back only by facts of its own: other inputs, or a claim that is gone.
"""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import CacheStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.status import CachedStatus
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher.plan import CHECK, FETCH, Plan, PrefetchSettings, plan
from flexinfer.sources import Volume
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

RETRY_SECONDS = 60.0
"""How long after a failure it is tried again."""
GATES = (conditions.ACCEPTED, conditions.PLACED)


class Prepare(msgspec.Struct, frozen=True, kw_only=True):
    """Make the claim, if it is ours to make, and the Job. `digest` is what the decision knew: news of the claim is another action."""

    model: Model
    digest: str = ""

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key


class Discard(msgspec.Struct, frozen=True, kw_only=True):
    """Delete a Job that has said what it had to say, or that nobody needs any more."""

    model: Model
    job: JobFacts

    @property
    def key(self) -> str:
        """The Job's key: it may go while the Model is written."""
        return f"{self.model.key}/{self.job.name}"


Action: TypeAlias = Prepare | Discard | WriteStatus | RequeueAt


def decide(state: ObservedState, now: float, *, settings: PrefetchSettings | None = None) -> Iterator[Action]:
    """Yield what every Model's weights need next."""
    for key in sorted(state.models):
        model = state.models[key]
        if not model.deleting:
            yield from _one(model, state, now, settings or PrefetchSettings())


def claim_of(model: Model, name: str, state: ObservedState) -> ClaimFacts | None:
    """Return a claim as last observed."""
    return next((c for c in state.workload(model).claims if c.name == name), None)


def _one(model: Model, state: ObservedState, now: float, settings: PrefetchSettings) -> Iterator[Action]:
    waits = actions.first_write_due(model, conditions.CACHED, state.first_seen.get(model.uid), now)
    bare = plan(model, "", settings)
    if model.condition_status(conditions.ACCEPTED) != conditions.TRUE or bare is None:
        if waits is not None:
            yield RequeueAt(waits)
        elif model.condition_status(conditions.ACCEPTED) == conditions.FALSE and not _true(model):
            yield from say(model, bare, conditions.FALSE, Reason.NOT_ACCEPTED, "the spec is not accepted")
        return
    yield from _tidy(model, state, settings)
    if not bare.job:
        if waits is not None:
            yield RequeueAt(waits)
            return
        yield from say(model, bare, conditions.TRUE, Reason.PULLED_BY_ENGINE, bare.note, ready=True)
        return
    found = claim_of(model, bare.claim, state) if bare.claim else None
    yield from _verified(model, state, now, plan(model, found.uid if found else "", settings) or bare)


def _verified(model: Model, state: ObservedState, now: float, wanted: Plan) -> Iterator[Action]:
    """Yield the next step towards a verdict that a Job stands for."""
    told = model.status.cache or CacheStatus()
    cached = model.condition(conditions.CACHED)
    if wanted.digest and _true(model) and cached is not None and told.job_name == wanted.name(model):
        yield from say(
            model, wanted, conditions.TRUE, cached.reason, cached.message, **_kept(told), ready=True
        )
        return
    if wanted.digest and not model.is_true(conditions.PLACED):
        waits = actions.first_write_due(model, conditions.CACHED, state.first_seen.get(model.uid), now)
        if waits is not None:
            yield RequeueAt(waits)
        else:
            yield from say(
                model, wanted, conditions.FALSE, Reason.NOT_PLACED, "waits for a node to look from"
            )
        return
    job = next((j for j in state.workload(model).jobs if j.name == wanted.name(model)), None)
    if job is None:
        yield Prepare(model=model, digest=wanted.digest)
    else:
        yield from _told_by(model, state, now, wanted, job)


def _told_by(model: Model, state: ObservedState, now: float, wanted: Plan, job: JobFacts) -> Iterator[Action]:
    """Yield what a Job says."""
    if job.complete:
        yield from _there(model, wanted, job)
    elif not job.failed_reason:
        reason = Reason.FETCHING if wanted.job == FETCH else Reason.CHECKING
        yield from say(
            model,
            wanted,
            conditions.FALSE,
            reason,
            under_way(wanted, job.waiting) + _where_to_look(model, job),
            phase="Running" if job.active and not job.waiting else "Pending",
        )
    elif said(job).get("reason") == Reason.SOURCE_NOT_FOUND:
        yield from say(
            model,
            wanted,
            conditions.FALSE,
            Reason.SOURCE_NOT_FOUND,
            f"{_lacking(wanted, job)}, then `kubectl delete job -n {model.metadata.namespace} {job.name}` "
            "tries again, or change the spec",
            phase="Failed",
        )
    elif wanted.job == CHECK and wanted.location.volume is Volume.NOTHING:
        yield from _unseen(model, wanted, job)
    else:
        yield from _again(model, state, now, wanted, job)


def _there(model: Model, wanted: Plan, job: JobFacts) -> Iterator[Action]:
    report = said(job)
    size = int(report.get("bytes", 0))
    reason = Reason.CACHED if wanted.claim else Reason.IN_IMAGE
    amount = f", {size:,} bytes" if size else ""
    yield from say(
        model,
        wanted,
        conditions.TRUE,
        reason,
        f"{_place(wanted)} holds {_below(wanted)}{amount}",
        ready=True,
        phase="Succeeded",
        revision=str(report.get("revision", "")),
        size=size,
    )


def _unseen(model: Model, wanted: Plan, job: JobFacts) -> Iterator[Action]:
    """Yield the honest verdict on an image that nobody but its engine can look into."""
    yield from say(
        model,
        wanted,
        conditions.TRUE,
        Reason.IN_IMAGE,
        f"{wanted.location.path} is a path inside the engine's image {wanted.image}, which could not be looked into "
        f"before the start: {job.failed_reason}",
        ready=True,
        phase="Failed",
    )


def _again(model: Model, state: ObservedState, now: float, wanted: Plan, job: JobFacts) -> Iterator[Action]:
    """Yield the cause of a failure, and the next try once its time has come."""
    report = said(job)
    cause = str(report.get("message") or "") or job.report.strip()[-300:] or job.failed_reason
    cached = model.condition(conditions.CACHED)
    known = cached is not None and cached.reason == Reason.FETCH_FAILED
    again = state.changed_at.get((model.key, conditions.CACHED), now) + RETRY_SECONDS
    if known and now >= again:
        yield Discard(model=model, job=job)
        return
    if known:
        yield RequeueAt(again)
    yield from say(
        model,
        wanted,
        conditions.FALSE,
        Reason.FETCH_FAILED,
        f"{cause}; tried again every {RETRY_SECONDS:.0f} s",
        phase="Failed",
    )


def _tidy(model: Model, state: ObservedState, settings: PrefetchSettings) -> Iterator[Action]:
    """Yield the Jobs that nobody needs: of former inputs, or done and told. One that found nothing stays as evidence."""
    told = model.status.cache or CacheStatus()
    ours = tuple(f"{model.metadata.name}-{kind}-" for kind in (CHECK, FETCH))
    bare = plan(model, "", settings)
    found = claim_of(model, bare.claim, state) if bare is not None and bare.claim else None
    wanted = plan(model, found.uid if found else "", settings)
    name = wanted.name(model) if wanted is not None and wanted.job else ""
    for job in state.workload(model).jobs:
        if not job.name.startswith(ours):
            continue
        told_of = _true(model) and told.job_name == job.name and (job.complete or bool(job.failed_reason))
        other = job.name != name and (wanted is None or not wanted.job or bool(wanted.digest))
        if told_of or other:
            yield Discard(model=model, job=job)


def _true(model: Model) -> bool:
    cached = model.condition(conditions.CACHED)
    return cached is not None and cached.true


def _place(wanted: Plan) -> str:
    return f"claim {wanted.claim}" if wanted.claim else f"the engine's container ({wanted.image})"


def _below(wanted: Plan) -> str:
    return wanted.location.path.removeprefix("/models/") if wanted.claim else wanted.location.path


def _lacking(wanted: Plan, job: JobFacts) -> str:
    if wanted.job == FETCH:
        return f"{said(job).get('message', 'the hub does not have it')}; put that right"
    return f"{_place(wanted)} holds no {_below(wanted)}; put it there"


def under_way(wanted: Plan, waiting: str) -> str:
    """Return the sentence on a Job that has not ended."""
    doing = "a Job fetches the weights" if wanted.job == FETCH else f"a Job looks for {_below(wanted)}"
    into = f" into {_place(wanted)}" if wanted.job == FETCH else f" in {_place(wanted)}"
    return doing + into + (f"; {waiting}" if waiting else "")


def _where_to_look(model: Model, job: JobFacts) -> str:
    """Return where the cause is told when a container does not come to be: kubelet writes of a volume in an event alone."""
    if not job.waiting.startswith("ContainerCreating"):
        return ""
    return f"where that lasts, `kubectl describe pods -n {model.metadata.namespace} -l job-name={job.name}` says why"


def said(job: JobFacts) -> dict[str, Any]:
    """Return the last line of a Job's Pod that is a JSON object: its report."""
    for line in reversed(job.report.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def _kept(told: CacheStatus) -> dict[str, Any]:
    return {"phase": told.job_phase, "revision": told.revision, "size": told.bytes}


def say(
    model: Model, wanted: Plan | None, status: str, reason: str, message: str, **facts: Any
) -> Iterator[WriteStatus]:
    """Yield the report, unless the Model says so already."""
    cache = CacheStatus(
        strategy=wanted.strategy if wanted is not None else "",
        ready=facts.get("ready", False),
        pvc_name=wanted.claim if wanted is not None else "",
        job_name=wanted.name(model) if wanted is not None and wanted.digest else "",
        job_phase=facts.get("phase", ""),
        revision=facts.get("revision", ""),
        bytes=facts.get("size", 0),
        total_bytes=facts.get("size", 0),
        message=message,
    )
    told = actions.write_if_changed(
        model,
        CachedStatus(
            condition=actions.condition(model, conditions.CACHED, status, reason, message), cache=cache
        ),
        (conditions.ACCEPTED,),
    )
    if told is not None:
        yield told
