"""The prefetcher's decision: what must be there before an engine starts, and the condition until it is."""

import json
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.model import Cache, CacheStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.status import CachedStatus
from flexinfer.events import events
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher import decide as deciding
from flexinfer.prefetcher.decide import RETRY_SECONDS, DeleteJob, EnsureJob
from flexinfer.prefetcher.plan import Plan, PrefetchSettings, plan_of
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation
from tests.builders import NOW, a_condition, a_model, a_state
from tests.keyed import on_all_models

decide = on_all_models(deciding.decide)

SETTINGS = PrefetchSettings(image="ours")
PLACED = ("Accepted", "Placed")


def decided(*parts: Any, after: float = 0.0) -> list[Any]:
    """Return what is decided, some seconds after everything was observed."""
    return list(decide(a_state(*parts), NOW + after, settings=SETTINGS))


def holding(
    model: Model, *jobs: JobFacts, pvc: str = "models", uid: str = "pvc-1"
) -> events.WorkloadObserved:
    """Return the workload of a Model: a PVC, and Jobs."""
    claims = (ClaimFacts(name=pvc, uid=uid),) if pvc else ()
    return events.WorkloadObserved(
        namespace=model.metadata.namespace, name=model.metadata.name, jobs=jobs, claims=claims
    )


def planned(model: Model, uid: str = "pvc-1") -> Plan:
    """Return the plan of a Model with a PVC."""
    plan = plan_of(model, SETTINGS)
    assert plan is not None
    return plan.with_pvc(uid)


def job_name(model: Model, uid: str = "pvc-1") -> str:
    """Return the name of the Job that a Model needs."""
    return planned(model, uid).job_name(model)


def a_job(model: Model, uid: str = "pvc-1", **changes: Any) -> JobFacts:
    """Return the Job that a Model needs."""
    return JobFacts(**({"name": job_name(model, uid), "uid": "job-1"} | changes))


def ensured(model: Model, uid: str = "pvc-1") -> EnsureJob:
    """Return the action that creates a Model's Job."""
    return EnsureJob(model=model, digest=planned(model, uid).digest)


def state(action: Any) -> tuple[str, str]:
    """Return status and reason of what an action writes."""
    assert isinstance(action, WriteStatus)
    return action.condition.status, action.condition.reason


def cache_of(action: Any) -> CacheStatus:
    """Return the cache status that an action writes."""
    assert isinstance(action, WriteStatus)
    assert isinstance(action.status, CachedStatus)
    return action.status.cache


def test_a_path_on_a_pvc_is_checked_by_a_job() -> None:
    """With the mounts that the engine will have."""
    model = a_model(conditions=PLACED)
    assert decided(model, holding(model)) == [ensured(model)]


def test_no_job_is_created_before_the_model_is_placed() -> None:
    """The check runs on the engine's node."""
    model = a_model(conditions=("Accepted", ("Placed", "False", Reason.NO_NODE_FITS)))
    assert [state(a) for a in decided(model, holding(model))] == [("False", Reason.NOT_PLACED)]


def test_a_pvc_that_was_never_observed_is_read_at_once() -> None:
    """ClaimNotFound needs no node: the API server knows."""
    model = a_model(conditions=("Accepted",))
    assert decided(model) == [ensured(model, "")]


def test_a_running_job_is_reported() -> None:
    """With what its Pod waits for."""
    model = a_model(conditions=PLACED)
    [action] = decided(
        model, holding(model, a_job(model, active=1, waiting="ImagePullBackOff: no such image"))
    )
    assert state(action) == ("False", Reason.CHECKING)
    assert action.condition.message == (
        "checking that PVC models contains smollm2.gguf; its Pod waits: ImagePullBackOff: no such image"
    )


def test_a_container_that_is_not_created_names_the_command_that_shows_the_cause() -> None:
    """A volume that cannot be mounted is reported only in an Event of the Pod."""
    model = a_model(conditions=PLACED)
    [action] = decided(model, holding(model, a_job(model, active=1, waiting="ContainerCreating: ")))
    assert "kubectl describe pods -n" in action.condition.message


def test_a_completed_check_is_cached() -> None:
    """With its size, and the Job's name as the record of it."""
    model = a_model(conditions=PLACED)
    job = a_job(model, complete=True, report=json.dumps({"found": True, "bytes": 1234}))
    [action] = decided(model, holding(model, job))
    assert state(action) == ("True", Reason.CACHED)
    assert action.condition.message == "PVC models contains smollm2.gguf (1,234 bytes)"
    cache = cache_of(action)
    assert (cache.ready, cache.bytes, cache.job_name) == (True, 1234, job.name)


def verified(**changes: Any) -> Model:
    """Return a Model whose source was verified by the Job of its inputs."""
    bare = a_model(conditions=PLACED, **changes)
    cache = CacheStatus(ready=True, pvc_name="models", job_name=job_name(bare), message="there")
    cached = a_condition(conditions.CACHED, "True", Reason.CACHED)
    status = msgspec.structs.replace(bare.status, conditions=(*bare.status.conditions, cached), cache=cache)
    return msgspec.structs.replace(bare, status=status)


def at_generation(model: Model, generation: int) -> Model:
    """Return the Model after a change of its spec, with its gates written for it."""
    meta = msgspec.structs.replace(model.metadata, generation=generation, resource_version="9")
    gates = tuple(
        msgspec.structs.replace(c, observed_generation=generation) if c.type in PLACED else c
        for c in model.status.conditions
    )
    status = msgspec.structs.replace(model.status, conditions=gates)
    return msgspec.structs.replace(model, metadata=meta, status=status)


def test_a_job_whose_result_is_recorded_is_deleted() -> None:
    """An idle Model owns its Service and its PVC, nothing else."""
    model = verified()
    job = a_job(model, complete=True)
    assert [a for a in decided(model, holding(model, job)) if isinstance(a, DeleteJob)] == [
        DeleteJob(model=model, job=job)
    ]


def test_a_generation_that_changes_no_input_keeps_its_result() -> None:
    """No new Job."""
    model = at_generation(verified(), 2)
    [action] = decided(model, holding(model))
    assert state(action) == ("True", Reason.CACHED)
    assert cache_of(action).job_name == job_name(model)


def test_another_pvc_of_the_same_name_is_checked_again() -> None:
    """It may contain anything."""
    model = verified()
    assert decided(model, holding(model, uid="pvc-2")) == [ensured(model, "pvc-2")]


def test_a_changed_path_is_checked_again() -> None:
    """The result was that of another file."""
    model = verified()
    spec = msgspec.structs.replace(model.spec, source="pvc://models/other.gguf")
    changed = at_generation(msgspec.structs.replace(model, spec=spec), 2)
    assert decided(changed, holding(changed)) == [ensured(changed)]


def test_a_verified_model_stays_cached_while_it_is_rescheduled() -> None:
    """A closed gate revokes nothing."""
    model = verified()
    gates = (
        a_condition("Accepted"),
        a_condition("Placed", "Unknown", "Because"),
        model.status.conditions[-1],
    )
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=gates))
    assert [a for a in decided(model, holding(model)) if state(a)[0] != "True"] == []


def test_a_missing_path_is_reported_with_a_remedy() -> None:
    """And the Job is kept as evidence."""
    model = a_model(conditions=PLACED)
    job = a_job(
        model, failed=1, failed_reason="BackoffLimitExceeded: x", report='noise\n{"reason": "SourceNotFound"}'
    )
    [action] = decided(model, holding(model, job))
    assert state(action) == ("False", Reason.SOURCE_NOT_FOUND)
    assert "PVC models does not contain smollm2.gguf. Remedy: " in action.condition.message
    assert f"kubectl delete job -n default {job.name}" in action.condition.message


def test_a_failed_job_is_retried() -> None:
    """The message has the cause, and the Job is deleted once its retry is due."""
    model = a_model(conditions=PLACED)
    job = a_job(
        model, failed=1, failed_reason="x: y", report='{"reason": "Unreadable", "message": "no access"}'
    )
    [first] = decided(model, holding(model, job))
    assert state(first) == ("False", Reason.FETCH_FAILED)
    assert first.condition.message == "check failed: no access; retrying every 60s"
    written = a_model(conditions=(*PLACED, first.condition), cache_status=cache_of(first))
    assert decided(written, holding(written, job)) == [RequeueAt(NOW + RETRY_SECONDS)]
    assert decided(written, holding(written, job), after=RETRY_SECONDS) == [DeleteJob(model=written, job=job)]


def test_a_deleted_pvc_is_read_again() -> None:
    """Only a change of its own inputs revokes Cached."""
    model = verified()
    gone = events.WorkloadObserved(namespace="default", name="llama")
    assert decided(model, gone) == [ensured(model, "")]


@pytest.mark.parametrize(
    ("changes", "strategy"),
    [
        pytest.param({"backend": "ollama", "source": "ollama://llama3:8b"}, None, id="ollama"),
        pytest.param({"source": "HF://a/b", "config": {"ggufFile": "x.gguf"}}, "Memory", id="memory"),
    ],
)
def test_what_the_engine_downloads_itself_needs_no_job(changes: dict[str, Any], strategy: str | None) -> None:
    """The message says when the download happens."""
    model = a_model(conditions=PLACED, **changes)
    cache = Cache(strategy=strategy) if strategy else None
    model = msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, cache=cache))
    [action] = decided(model)
    assert state(action) == ("True", Reason.PULLED_BY_ENGINE)


def test_a_path_in_an_image_that_cannot_be_checked_is_left_to_the_engine() -> None:
    """Such as an image without a shell."""
    model = a_model(conditions=PLACED, source="file:///m.gguf")
    job = a_job(model, "", failed=1, failed_reason="DeadlineExceeded: no shell")
    [action] = decided(model, holding(model, job, pvc=""))
    assert state(action) == ("True", Reason.IN_IMAGE)
    assert "could not be checked" in action.condition.message


def test_a_path_that_is_missing_from_the_image_is_not_found() -> None:
    """As the image's own shell reports."""
    model = a_model(conditions=PLACED, source="file:///m.gguf")
    job = a_job(model, "", failed=1, failed_reason="x: y", report='{"reason": "SourceNotFound"}')
    [action] = decided(model, holding(model, job, pvc=""))
    assert state(action) == ("False", Reason.SOURCE_NOT_FOUND)


def test_a_job_of_other_inputs_is_deleted() -> None:
    """Its result is not needed."""
    model = a_model(conditions=PLACED)
    stale = JobFacts(name="llama-check-00000000", uid="job-0", active=1)
    assert DeleteJob(model=model, job=stale) in decided(model, holding(model, stale))


def test_a_refused_spec_has_a_condition_too() -> None:
    """Not Unknown: the condition says what it waits for."""
    model = a_model(conditions=(("Accepted", "False", Reason.UNKNOWN_BACKEND),))
    assert [state(a) for a in decided(model, after=2)] == [("False", Reason.NOT_ACCEPTED)]


def test_a_deleted_model_needs_nothing() -> None:
    """Its Jobs are deleted with it, its PVC stays."""
    assert decided(a_model(conditions=PLACED, deletion_timestamp="2026-11-24T10:00:00Z")) == []


def test_a_written_status_is_not_written_again() -> None:
    """Idempotent: after its own write is applied, nothing more is written."""
    model = a_model(conditions=PLACED)
    job = a_job(model, complete=True, report='{"found": true, "bytes": 5}')
    [first] = decided(model, holding(model, job))
    written = a_model(conditions=(*PLACED, first.condition), cache_status=cache_of(first), version=2)
    observed = apply_events(
        a_state(model, holding(model)), [Observation(events.ModelObserved(model=written), NOW)]
    )
    assert list(decide(observed, NOW, settings=SETTINGS)) == []


@pytest.mark.parametrize(
    ("source", "config", "job", "message"),
    [
        pytest.param("pvc://models", {}, {}, "checking that PVC models contains files", id="a whole PVC"),
        pytest.param(
            "file:///m.gguf",
            {},
            {},
            "checking that image ghcr.io/ggml-org/llama.cpp:server contains /m.gguf",
            id="a path in the image",
        ),
        pytest.param(
            "HF://org/repo",
            {"ggufFile": "x.gguf"},
            {},
            "downloading org/repo to PVC llama-cache",
            id="download",
        ),
        pytest.param(
            "HF://org/repo",
            {"ggufFile": "x.gguf"},
            {"complete": True, "report": '{"bytes": 105454432, "revision": "abc"}'},
            "PVC llama-cache contains org/repo (105,454,432 bytes)",
            id="downloaded",
        ),
        pytest.param(
            "HF://org/repo",
            {"ggufFile": "x.gguf"},
            {"failed_reason": "BackoffLimitExceeded: x", "report": "noise\nKilled"},
            "download failed: noise Killed; retrying every 60s",
            id="download failed",
        ),
    ],
)
def test_a_message_names_what_the_user_named(
    source: str, config: dict[str, Any], job: dict[str, Any], message: str
) -> None:
    """The repository, the PVC, the path or the image."""
    model = a_model(conditions=PLACED, source=source, config=config)
    plan = planned(model)
    [action] = decided(model, holding(model, a_job(model, **job), pvc=plan.pvc))
    assert action.condition.message == message


def test_a_line_of_a_log_that_is_no_report_is_skipped() -> None:
    """Any program may write JSON of its own."""
    model = a_model(conditions=PLACED)
    job = a_job(model, complete=True, report='{"bytes": 7}\n{"bytes": "many"}\n[1]')
    [action] = decided(model, holding(model, job))
    assert cache_of(action).bytes == 7
