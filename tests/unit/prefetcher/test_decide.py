"""The prefetcher's decision: what must be there before an engine starts, and what is said until it is."""

import json
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.model import Cache, CacheStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher.decide import RETRY_SECONDS, Discard, Prepare, decide
from flexinfer.prefetcher.plan import PrefetchSettings, plan
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation
from tests.builders import NOW, a_condition, a_fleet, a_model

TERMS = PrefetchSettings(image="ours")
HOME = ("Accepted", "Placed")


def decided(*parts: Any, after: float = 0.0) -> list[Any]:
    """Return what is decided, some seconds after everything was seen."""
    return list(decide(a_fleet(*parts), NOW + after, settings=TERMS))


def holding(
    model: Model, *jobs: JobFacts, claim: str = "models", uid: str = "claim-1"
) -> events.WorkloadObserved:
    """Return the workload of a Model: a claim, and Jobs."""
    claims = (ClaimFacts(name=claim, uid=uid),) if claim else ()
    return events.WorkloadObserved(
        namespace=model.metadata.namespace, name=model.metadata.name, jobs=jobs, claims=claims
    )


def job_name(model: Model, uid: str = "claim-1") -> str:
    """Return the name of the Job that a Model needs."""
    made = plan(model, uid, TERMS)
    assert made is not None
    return made.name(model)


def a_job(model: Model, uid: str = "claim-1", **changes: Any) -> JobFacts:
    """Return the Job that a Model needs."""
    return JobFacts(**({"name": job_name(model, uid), "uid": "job-1"} | changes))


def prepared(model: Model, uid: str = "claim-1") -> Prepare:
    """Return the preparation of a Model's Job."""
    made = plan(model, uid, TERMS)
    assert made is not None
    return Prepare(model=model, digest=made.digest)


def said(action: Any) -> tuple[str, str]:
    """Return status and reason of what an action writes."""
    assert isinstance(action, WriteStatus)
    return action.condition.status, action.condition.reason


def test_a_claim_is_looked_into_by_a_job() -> None:
    """Nothing is believed of a path before somebody saw it with the engine's mounts."""
    model = a_model(conditions=HOME)
    assert decided(model, holding(model)) == [prepared(model)]


def test_nothing_is_looked_for_without_a_home() -> None:
    """The look is from the engine's node."""
    model = a_model(conditions=("Accepted", ("Placed", "False", Reason.NO_NODE_FITS)))
    assert [said(a) for a in decided(model, holding(model))] == [("False", Reason.NOT_PLACED)]


def test_a_claim_that_was_never_seen_is_asked_for_at_once() -> None:
    """ClaimNotFound needs no home: the API server is asked."""
    model = a_model(conditions=("Accepted",))
    assert decided(model) == [prepared(model, "")]


def test_a_job_under_way_is_said() -> None:
    """With what it waits for."""
    model = a_model(conditions=HOME)
    [action] = decided(
        model, holding(model, a_job(model, active=1, waiting="ImagePullBackOff: no such image"))
    )
    assert said(action) == ("False", Reason.CHECKING)
    assert "ImagePullBackOff: no such image" in action.condition.message


def test_a_container_that_does_not_come_to_be_says_where_the_cause_is() -> None:
    """A volume that will not mount is told in an event of its Pod and nowhere else."""
    model = a_model(conditions=HOME)
    [action] = decided(model, holding(model, a_job(model, active=1, waiting="ContainerCreating: ")))
    assert "kubectl describe pods -n" in action.condition.message


def test_what_was_found_is_cached() -> None:
    """With its size, and the Job's name as the memory of it."""
    model = a_model(conditions=HOME)
    job = a_job(model, complete=True, report=json.dumps({"found": True, "bytes": 1234}))
    [action] = decided(model, holding(model, job))
    assert said(action) == ("True", Reason.CACHED)
    cache = action.fields["cache"]
    assert (cache.ready, cache.bytes, cache.job_name) == (True, 1234, job.name)


def verified(**changes: Any) -> Model:
    """Return a Model whose source was verified by the Job of its inputs."""
    bare = a_model(conditions=HOME, **changes)
    told = CacheStatus(ready=True, pvc_name="models", job_name=job_name(bare), message="there")
    cached = a_condition(conditions.CACHED, "True", Reason.CACHED, changes.get("generation_told", 1))
    status = msgspec.structs.replace(bare.status, conditions=(*bare.status.conditions, cached), cache=told)
    return msgspec.structs.replace(bare, status=status)


def at_generation(model: Model, generation: int) -> Model:
    """Return the Model after a change of its spec, its gates judged again."""
    meta = msgspec.structs.replace(model.metadata, generation=generation, resource_version="9")
    gates = tuple(
        msgspec.structs.replace(c, observed_generation=generation) if c.type in HOME else c
        for c in model.status.conditions
    )
    status = msgspec.structs.replace(model.status, conditions=gates)
    return msgspec.structs.replace(model, metadata=meta, status=status)


def test_a_done_job_is_cleared_away() -> None:
    """An idle Model owns its Service and its claim, nothing else."""
    model = verified()
    job = a_job(model, complete=True)
    assert [a for a in decided(model, holding(model, job)) if isinstance(a, Discard)] == [
        Discard(model=model, job=job)
    ]


def test_a_generation_that_changes_no_input_gets_the_same_verdict_at_once() -> None:
    """No new Job."""
    model = at_generation(verified(), 2)
    [action] = decided(model, holding(model))
    assert said(action) == ("True", Reason.CACHED)
    assert action.fields["cache"].job_name == job_name(model)


def test_another_claim_of_the_same_name_is_looked_into_anew() -> None:
    """It may hold anything."""
    model = verified()
    assert decided(model, holding(model, uid="claim-2")) == [prepared(model, "claim-2")]


def test_a_changed_path_is_looked_for_anew() -> None:
    """The verdict was on another file."""
    model = verified()
    spec = msgspec.structs.replace(model.spec, source="pvc://models/other.gguf")
    changed = at_generation(msgspec.structs.replace(model, spec=spec), 2)
    assert decided(changed, holding(changed)) == [prepared(changed)]


def test_a_verified_model_keeps_its_verdict_while_it_is_placed_anew() -> None:
    """Gates open; they do not close."""
    model = verified()
    gates = (
        a_condition("Accepted"),
        a_condition("Placed", "Unknown", "Because"),
        model.status.conditions[-1],
    )
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=gates))
    told = [a for a in decided(model, holding(model)) if said(a)[0] != "True"]
    assert told == []


def test_a_path_that_is_not_there_is_said_with_the_way_out() -> None:
    """And the Job stays as evidence."""
    model = a_model(conditions=HOME)
    job = a_job(
        model, failed=1, failed_reason="BackoffLimitExceeded: x", report='noise\n{"reason": "SourceNotFound"}'
    )
    [action] = decided(model, holding(model, job))
    assert said(action) == ("False", Reason.SOURCE_NOT_FOUND)
    assert "claim models holds no smollm2.gguf" in action.condition.message
    assert f"kubectl delete job -n default {job.name}" in action.condition.message


def test_a_failed_fetch_is_tried_again_after_a_while() -> None:
    """The cause is said meanwhile, and the Job goes when its time has come."""
    model = a_model(conditions=HOME)
    job = a_job(
        model, failed=1, failed_reason="x: y", report='{"reason": "Away", "message": "the hub is away"}'
    )
    [first] = decided(model, holding(model, job))
    assert said(first) == ("False", Reason.FETCH_FAILED)
    assert "the hub is away" in first.condition.message
    told = a_model(conditions=(*HOME, first.condition), cache_status=first.fields["cache"])
    assert decided(told, holding(told, job)) == [RequeueAt(NOW + RETRY_SECONDS)]
    assert decided(told, holding(told, job), after=RETRY_SECONDS) == [Discard(model=told, job=job)]


def test_a_claim_that_vanished_is_asked_for_again() -> None:
    """Cached is taken back by facts of its own."""
    model = verified()
    gone = events.WorkloadObserved(namespace="default", name="llama")
    assert decided(model, gone) == [prepared(model, "")]


@pytest.mark.parametrize(
    ("changes", "strategy"),
    [
        pytest.param({"backend": "ollama", "source": "ollama://llama3:8b"}, None, id="ollama"),
        pytest.param({"source": "HF://a/b", "config": {"ggufFile": "x.gguf"}}, "Memory", id="memory"),
    ],
)
def test_what_the_engine_fetches_itself_holds_nothing_back(
    changes: dict[str, Any], strategy: str | None
) -> None:
    """It is said, so that nobody waits for a download that comes later."""
    model = a_model(conditions=HOME, **changes)
    cache = Cache(strategy=strategy) if strategy else None
    model = msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, cache=cache))
    [action] = decided(model)
    assert said(action) == ("True", Reason.PULLED_BY_ENGINE)


def test_a_file_of_an_image_that_cannot_be_looked_into_is_left_to_the_engine() -> None:
    """Honest rather than stuck."""
    model = a_model(conditions=HOME, source="file:///m.gguf")
    job = a_job(model, "", failed=1, failed_reason="DeadlineExceeded: no shell")
    [action] = decided(model, holding(model, job, claim=""))
    assert said(action) == ("True", Reason.IN_IMAGE)
    assert "could not be looked into" in action.condition.message


def test_a_file_that_is_missing_from_the_image_is_refused() -> None:
    """The image's own shell said so."""
    model = a_model(conditions=HOME, source="file:///m.gguf")
    job = a_job(model, "", failed=1, failed_reason="x: y", report='{"reason": "SourceNotFound"}')
    [action] = decided(model, holding(model, job, claim=""))
    assert said(action) == ("False", Reason.SOURCE_NOT_FOUND)


def test_a_job_of_former_inputs_is_cleared_away() -> None:
    """Nobody needs its answer."""
    model = a_model(conditions=HOME)
    stale = JobFacts(name="llama-check-00000000", uid="job-0", active=1)
    assert Discard(model=model, job=stale) in decided(model, holding(model, stale))


def test_a_refused_spec_has_a_verdict_too() -> None:
    """Never a bare Unknown."""
    model = a_model(conditions=(("Accepted", "False", Reason.UNKNOWN_BACKEND),))
    assert [said(a) for a in decided(model, after=2)] == [("False", Reason.NOT_ACCEPTED)]


def test_a_deleted_model_needs_nothing() -> None:
    """Its Jobs go with it, its claim stays."""
    assert decided(a_model(conditions=HOME, deletion_timestamp="2026-11-24T10:00:00Z")) == []


def test_what_was_said_is_not_said_again() -> None:
    """Idempotent: after its own report is folded, nothing more is written."""
    model = a_model(conditions=HOME)
    job = a_job(model, complete=True, report='{"found": true, "bytes": 5}')
    [first] = decided(model, holding(model, job))
    told = a_model(conditions=(*HOME, first.condition), cache_status=first.fields["cache"], version=2)
    state = apply_events(a_fleet(model, holding(model)), [Observation(events.ModelObserved(model=told), NOW)])
    assert list(decide(state, NOW, settings=TERMS)) == []
