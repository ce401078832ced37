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

from flexinfer.contracts import actions, conditions, keys
from flexinfer.contracts.actions import Recheck, Report
from flexinfer.contracts.fleet import Fleet
from flexinfer.contracts.model import CacheStatus, Model
from flexinfer.contracts.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher.plan import CHECK, FETCH, Plan, Terms, plan
from flexinfer.sources import Volume

RETRY_SECONDS = 60.0
"""How long after a failure it is tried again."""
GATES = (keys.ACCEPTED, keys.PLACED)


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


Action: TypeAlias = Prepare | Discard | Report | Recheck


def decide(fleet: Fleet, now: float, *, terms: Terms | None = None) -> Iterator[Action]:
    """Yield what every Model's weights need next."""
    for key in sorted(fleet.models):
        model = fleet.models[key]
        if not model.deleting:
            yield from _one(model, fleet, now, terms or Terms())


def claim_of(model: Model, name: str, fleet: Fleet) -> ClaimFacts | None:
    """Return a claim as last observed."""
    return next((c for c in fleet.workload(model).claims if c.name == name), None)


def _one(model: Model, fleet: Fleet, now: float, terms: Terms) -> Iterator[Action]:
    waits = actions.first_verdict_waits(model, keys.CACHED, fleet.seen.get(model.uid), now)
    bare = plan(model, "", terms)
    if model.verdict(keys.ACCEPTED) != conditions.TRUE or bare is None:
        if waits is not None:
            yield Recheck(waits)
        elif model.verdict(keys.ACCEPTED) == conditions.FALSE and not _true(model):
            yield from say(model, bare, conditions.FALSE, keys.R_NOT_ACCEPTED, "the spec is not accepted")
        return
    yield from _tidy(model, fleet, terms)
    if not bare.job:
        if waits is not None:
            yield Recheck(waits)
            return
        yield from say(model, bare, conditions.TRUE, keys.R_PULLED_BY_ENGINE, bare.note, ready=True)
        return
    found = claim_of(model, bare.claim, fleet) if bare.claim else None
    yield from _verified(model, fleet, now, plan(model, found.uid if found else "", terms) or bare)


def _verified(model: Model, fleet: Fleet, now: float, wanted: Plan) -> Iterator[Action]:
    """Yield the next step towards a verdict that a Job stands for."""
    told = model.status.cache or CacheStatus()
    cached = model.condition(keys.CACHED)
    if wanted.digest and _true(model) and cached is not None and told.job_name == wanted.name(model):
        yield from say(
            model, wanted, conditions.TRUE, cached.reason, cached.message, **_kept(told), ready=True
        )
        return
    if wanted.digest and not model.holds(keys.PLACED):
        waits = actions.first_verdict_waits(model, keys.CACHED, fleet.seen.get(model.uid), now)
        if waits is not None:
            yield Recheck(waits)
        else:
            yield from say(
                model, wanted, conditions.FALSE, keys.R_NOT_PLACED, "waits for a node to look from"
            )
        return
    job = next((j for j in fleet.workload(model).jobs if j.name == wanted.name(model)), None)
    if job is None:
        yield Prepare(model=model, digest=wanted.digest)
    else:
        yield from _told_by(model, fleet, now, wanted, job)


def _told_by(model: Model, fleet: Fleet, now: float, wanted: Plan, job: JobFacts) -> Iterator[Action]:
    """Yield what a Job says."""
    if job.complete:
        yield from _there(model, wanted, job)
    elif not job.failed_reason:
        reason = keys.R_FETCHING if wanted.job == FETCH else keys.R_CHECKING
        yield from say(
            model,
            wanted,
            conditions.FALSE,
            reason,
            under_way(wanted, job.waiting) + _where_to_look(model, job),
            phase="Running" if job.active and not job.waiting else "Pending",
        )
    elif said(job).get("reason") == keys.R_SOURCE_NOT_FOUND:
        yield from say(
            model,
            wanted,
            conditions.FALSE,
            keys.R_SOURCE_NOT_FOUND,
            f"{_lacking(wanted, job)}, then `kubectl delete job -n {model.metadata.namespace} {job.name}` "
            "tries again, or change the spec",
            phase="Failed",
        )
    elif wanted.job == CHECK and wanted.location.volume is Volume.NOTHING:
        yield from _unseen(model, wanted, job)
    else:
        yield from _again(model, fleet, now, wanted, job)


def _there(model: Model, wanted: Plan, job: JobFacts) -> Iterator[Action]:
    report = said(job)
    size = int(report.get("bytes", 0))
    reason = keys.R_CACHED if wanted.claim else keys.R_IN_IMAGE
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
        keys.R_IN_IMAGE,
        f"{wanted.location.path} is a path inside the engine's image {wanted.image}, which could not be looked into "
        f"before the start: {job.failed_reason}",
        ready=True,
        phase="Failed",
    )


def _again(model: Model, fleet: Fleet, now: float, wanted: Plan, job: JobFacts) -> Iterator[Action]:
    """Yield the cause of a failure, and the next try once its time has come."""
    report = said(job)
    cause = str(report.get("message") or "") or job.report.strip()[-300:] or job.failed_reason
    cached = model.condition(keys.CACHED)
    known = cached is not None and cached.reason == keys.R_FETCH_FAILED
    again = fleet.since.get((model.key, keys.CACHED), now) + RETRY_SECONDS
    if known and now >= again:
        yield Discard(model=model, job=job)
        return
    if known:
        yield Recheck(again)
    yield from say(
        model,
        wanted,
        conditions.FALSE,
        keys.R_FETCH_FAILED,
        f"{cause}; tried again every {RETRY_SECONDS:.0f} s",
        phase="Failed",
    )


def _tidy(model: Model, fleet: Fleet, terms: Terms) -> Iterator[Action]:
    """Yield the Jobs that nobody needs: of former inputs, or done and told. One that found nothing stays as evidence."""
    told = model.status.cache or CacheStatus()
    ours = tuple(f"{model.metadata.name}-{kind}-" for kind in (CHECK, FETCH))
    bare = plan(model, "", terms)
    found = claim_of(model, bare.claim, fleet) if bare is not None and bare.claim else None
    wanted = plan(model, found.uid if found else "", terms)
    name = wanted.name(model) if wanted is not None and wanted.job else ""
    for job in fleet.workload(model).jobs:
        if not job.name.startswith(ours):
            continue
        told_of = _true(model) and told.job_name == job.name and (job.complete or bool(job.failed_reason))
        other = job.name != name and (wanted is None or not wanted.job or bool(wanted.digest))
        if told_of or other:
            yield Discard(model=model, job=job)


def _true(model: Model) -> bool:
    cached = model.condition(keys.CACHED)
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
) -> Iterator[Report]:
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
    told = actions.report(
        model,
        actions.verdict(model, keys.CACHED, status, reason, message),
        {"cache": cache},
        (keys.ACCEPTED,),
    )
    if told is not None:
        yield told
