"""The prefetcher's decision: what must be there before an engine starts, and the condition until it is."""

import json
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Cache, CacheStatus, Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.status import CachedStatus
from flexinfer.events import events
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher import decide as deciding
from flexinfer.prefetcher.decide import write_of
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.memory import (
    FIRST_BACK_OFF,
    FIRST_RETRY,
    LONGEST_BACK_OFF,
    ClaimRefused,
    EnsureFailed,
    JobRetried,
    Memory,
    forget,
    remember,
)
from flexinfer.prefetcher.plan import Plan, PrefetchSettings, plan_of
from flexinfer.prefetcher.retry import LEAST_SECONDS, retry_of
from flexinfer.prefetcher.slots import MOST_CHECKS, touched
from flexinfer.prefetcher.volume import PENDING_SECONDS
from flexinfer.state.actions import RequeueAt, WriteStatus, written
from flexinfer.state.apply import apply_events, assume
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_condition, a_model, a_state
from tests.keyed import on_all_models

decide = on_all_models(deciding.decide)

SETTINGS = PrefetchSettings(image="ours")
PLACED = ("Accepted", "Placed")


def decided(*parts: Any, after: float = 0.0) -> list[Any]:
    """Return what is decided, some seconds after everything was observed."""
    return list(decide(a_state(*parts), Memory(), NOW + after, settings=SETTINGS))


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


@pytest.mark.parametrize(
    ("facts", "replaced"),
    [
        ({"active": 1, "waiting": "ImagePullBackOff: unauthorized"}, True),
        ({"active": 0}, True),
        ({"active": 1, "address": "10.0.0.1"}, False),
        ({"active": 1}, False),
        ({"complete": True, "succeeded": 1}, False),
        ({"failed": 1, "failed_reason": "BackoffLimitExceeded: it failed"}, False),
    ],
)
def test_a_job_that_has_not_begun_is_created_again_with_other_pull_secrets(
    *, facts: dict[str, Any], replaced: bool
) -> None:
    """A template of a Job cannot be changed, and an image that cannot be pulled would wait a day; a download that runs continues."""
    old = a_model(conditions=PLACED)
    model = a_model(conditions=PLACED, pull_secrets=("mine",))
    job = a_job(model, fingerprint=planned(old).fingerprint, **facts)
    assert (decided(model, holding(model, job)) == [DeleteJob(model=model, job=job)]) == replaced


@pytest.mark.parametrize("source", ["HF://a/b", "pvc://models/smollm2.gguf"])
@pytest.mark.parametrize(
    ("facts", "replaced"),
    [
        ({"active": 1, "waiting": "Unschedulable: 0/1 nodes are available"}, True),
        ({"active": 1, "address": "10.0.0.1"}, False),
    ],
)
def test_a_job_of_a_node_that_was_lost_is_created_on_the_next_one(
    source: str, facts: dict[str, Any], *, replaced: bool
) -> None:
    """Its Pod is kept on the node that the Model had then: the replacement would wait there for as long as a download may take, a day."""
    lost, moved = (a_model(source=source, conditions=PLACED, placement=Placement(node=n)) for n in "ab")
    pvc = "models" if source.startswith("pvc") else "llama-cache"
    job = a_job(lost, fingerprint=planned(lost).fingerprint, **facts)
    assert planned(lost).digest == planned(moved).digest
    for model, expected in ((moved, replaced), (lost, False)):
        deletions = [a for a in decided(model, holding(model, job, pvc=pvc)) if isinstance(a, DeleteJob)]
        assert bool(deletions) == expected


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
    """A closed gate revokes nothing (reliability X20)."""
    model = verified()
    gates = (
        a_condition("Accepted"),
        a_condition("Placed", "Unknown", "Because"),
        model.status.conditions[-1],
    )
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=gates))
    assert [a for a in decided(model, holding(model)) if state(a)[0] != "True"] == []


def failing(report: str = '{"reason": "SourceNotFound"}', **changes: Any) -> tuple[Model, JobFacts, Any]:
    """Return a Model whose Job failed with a report, the Job, and the write of that."""
    model = a_model(conditions=PLACED, **changes)
    job = a_job(model, failed=1, failed_reason="BackoffLimitExceeded: x", report=f"noise\n{report}")
    [write] = decided(model, holding(model, job, pvc=planned(model).pvc))
    return model, job, write


def reported(model: Model, write: Any, **changes: Any) -> Model:
    """Return the Model after a write."""
    status = msgspec.structs.replace(
        model.status, conditions=(*model.status.conditions, write.condition), cache=cache_of(write)
    )
    return msgspec.structs.replace(model, status=status, **changes)


def test_a_missing_path_is_reported_with_a_remedy() -> None:
    """And with the time at which it is looked for again."""
    _, _, action = failing()
    assert state(action) == ("False", Reason.SOURCE_NOT_FOUND)
    assert action.condition.message == (
        "check failed: PVC models does not contain smollm2.gguf; correct spec.source, or add the file; "
        "retrying 15s after the failure"
    )


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ("GatedRepository", Reason.GATED_REPOSITORY),
        ("DiskFull", Reason.DISK_FULL),
        ("Unreadable", Reason.FETCH_FAILED),
        ("Ready", Reason.FETCH_FAILED),
        ("Cached", Reason.FETCH_FAILED),
    ],
)
def test_the_reason_of_a_report_is_that_of_the_condition(report: str, reason: Reason) -> None:
    """If Cached may have it: the program may be an image's own."""
    _, _, action = failing(f'{{"reason": "{report}", "message": "m"}}', source="HF://a/b")
    assert state(action) == ("False", reason)
    assert action.condition.message == "download failed: m; retrying 15s after the failure"


def test_a_failed_job_is_retried() -> None:
    """The message has the cause, and the Job is deleted once its retry is due (reliability X20)."""
    model, job, first = failing('{"reason": "Unreadable", "message": "no access"}')
    assert state(first) == ("False", Reason.FETCH_FAILED)
    assert first.condition.message == "check failed: no access; retrying 15s after the failure"
    model = reported(model, first)
    retry = DeleteJob(model=model, job=job, retried=planned(model).digest)
    assert decided(model, holding(model, job)) == [RequeueAt(NOW + FIRST_RETRY)]
    assert decided(model, holding(model, job), after=FIRST_RETRY) == [retry]


def test_a_failed_job_is_created_again_at_once_after_a_request() -> None:
    """Its own back-off may be a quarter of an hour; requests that follow do not make it more often than every 10 s."""
    model, job, first = failing('{"reason": "HubUnavailable", "message": "m"}', source="HF://a/b")
    model, digest = reported(model, first), planned(model).digest
    observed = a_state(model, holding(model, job, pvc="llama-cache"))
    wake = events.WakeRequested(namespace="default", name="llama", uid=model.uid)
    asked = apply_events(observed, [Observation(wake, NOW + 2)])
    [action] = deciding.decide(asked, Memory(), model.key, NOW + 2, settings=SETTINGS)
    assert action == RequeueAt(NOW + LEAST_SECONDS)
    [action] = deciding.decide(asked, Memory(), model.key, NOW + LEAST_SECONDS, settings=SETTINGS)
    assert action == DeleteJob(model=model, job=job, retried=digest)
    memory = remember(Memory(), JobRetried(key=model.key, uid=model.uid, digest=digest), NOW + LEAST_SECONDS)
    action, *_ = deciding.decide(asked, memory, model.key, NOW + LEAST_SECONDS, settings=SETTINGS)
    assert action == RequeueAt(NOW + LEAST_SECONDS + 2 * FIRST_RETRY)


def test_a_failed_job_is_created_again_at_once_after_a_change_of_the_spec() -> None:
    """A user who corrected something does not wait."""
    model, job, first = failing()
    changed = at_generation(reported(model, first), 2)
    [action] = decided(changed, holding(changed, job))
    assert action == DeleteJob(model=changed, job=job, retried=planned(changed).digest)


def test_looking_again_for_what_is_missing_changes_no_condition() -> None:
    """A Model that is Failed stays so until the Job has found something."""
    model, job, first = failing('{"reason": "GatedRepository", "message": "m"}', source="HF://a/b")
    model, digest = reported(model, first), planned(model).digest
    memory = remember(Memory(), JobRetried(key=model.key, uid=model.uid, digest=digest), NOW)

    def at_work(*jobs: JobFacts) -> list[Any]:
        observed = a_state(model, holding(model, *jobs, pvc="llama-cache"))
        return list(deciding.decide(observed, memory, model.key, NOW, settings=SETTINGS))

    assert at_work() == [EnsureJob(model=model, digest=digest, kind="fetch", keeps=True)]
    assert at_work(a_job(model, active=1)) == []
    [done] = at_work(a_job(model, complete=True, report='{"bytes": 5}'))
    assert state(done) == ("True", Reason.CACHED)
    assert job.failed


def test_a_job_that_fails_again_is_retried_ever_more_rarely() -> None:
    """The count is of these inputs: others are tried at once."""
    model, memory = a_model(conditions=PLACED), Memory()
    digest = planned(model).digest
    waits = []
    for _ in range(2000):
        waits.append(memory.retry_seconds(model.uid, digest))
        memory = remember(memory, JobRetried(key=model.key, uid=model.uid, digest=digest), NOW)
    assert waits[:4] == [15.0, 30.0, 60.0, 120.0]
    assert waits[-1] == 900.0
    assert memory.retry_seconds(model.uid, "other") == FIRST_RETRY
    assert forget(memory, model.uid) == Memory()


def test_a_missing_pvc_is_asked_for_ever_more_rarely_and_its_event_ends_the_wait() -> None:
    """Three reads every 10 s for each such Model would never end."""
    model, memory = a_model(conditions=PLACED), Memory()
    gone = a_state(model, holding(model, pvc=""))
    now, asked = NOW, []
    while now < NOW + 3600:
        [action] = deciding.decide(gone, memory, model.key, now, settings=SETTINGS)
        if isinstance(action, RequeueAt):
            now = action.at
            continue
        asked.append(action)
        memory = remember(memory, EnsureFailed(key=model.key, uid=model.uid, digest=""), now)
    assert set(map(str, asked)) == {str(ensured(model, ""))}
    assert len(asked) < 3600 / LONGEST_BACK_OFF + 8
    there = a_state(model, holding(model))
    assert list(deciding.decide(there, memory, model.key, now, settings=SETTINGS)) == [ensured(model)]


def test_a_job_that_the_api_server_refuses_is_tried_after_a_back_off() -> None:
    """Such as one over a quota."""
    model = a_model(conditions=PLACED)
    failed = EnsureFailed(key=model.key, uid=model.uid, digest=planned(model).digest)
    memory = remember(Memory(), failed, NOW)
    [action] = deciding.decide(a_state(model, holding(model)), memory, model.key, NOW, settings=SETTINGS)
    assert action == RequeueAt(NOW + FIRST_BACK_OFF)
    assert memory.ensure_at(model.uid, "other inputs") < NOW


def crowd(number: int) -> list[Any]:
    """Return Models of one node that all need a check, and their workloads."""
    models = [a_model(f"m{i:03}", conditions=PLACED) for i in range(number)]
    return [part for model in models for part in (holding(model), model)]


def test_at_most_four_checks_run_on_a_node() -> None:
    """60 Models applied at once are not 60 processes; those that wait say so."""
    actions_ = decided(*crowd(60))
    assert sum(isinstance(action, EnsureJob) for action in actions_) == MOST_CHECKS
    queued = [action for action in actions_ if isinstance(action, WriteStatus)]
    assert {state(action) for action in queued} == {("False", Reason.CHECK_QUEUED)}
    assert queued[0].condition.message.startswith("4 checks run on node a")


def test_checks_of_other_nodes_do_not_wait() -> None:
    """Each node has its own slots."""
    elsewhere = a_model("z", conditions=PLACED, placement=Placement(node="b"))
    actions_ = decided(*crowd(10), holding(elsewhere), elsewhere)
    assert ensured(elsewhere) in actions_


def with_four_checks() -> ObservedState:
    """Return four Models whose checks run, and four that wait for that, in another order than that of their names."""
    observed = a_state(*crowd(8))
    for at, name in enumerate(["m007", "m000", "m001", "m002", "m003", "m004", "m005", "m006"]):
        key = f"default/{name}"
        for action in deciding.decide(observed, Memory(), key, NOW + at, settings=SETTINGS):
            assert not isinstance(action, RequeueAt)
            write = action if isinstance(action, WriteStatus) else write_of(action)
            assert write is not None
            model = written(write)
            metadata = msgspec.structs.replace(model.metadata, resource_version=str(at + 2))
            event = events.ModelObserved(model=msgspec.structs.replace(model, metadata=metadata))
            observed = apply_events(observed, [Observation(event, NOW + at)])
    return observed


WAITING = ["default/m003", "default/m004", "default/m005", "default/m006"]


def test_the_model_that_waited_longest_is_next_when_a_check_ends() -> None:
    """Whatever its name, and only as many as there are slots are decided on again."""
    observed = with_four_checks()
    done = status_of(observed.models["default/m000"], a_condition("Cached"))
    event = events.ModelObserved(model=done)
    after = apply_events(observed, [Observation(event, NOW + 20)])
    assert list(touched(observed, after, event)) == ["default/m000", *WAITING]
    for key, creates in (("default/m003", True), ("default/m004", False)):
        [*actions_] = deciding.decide(after, Memory(), key, NOW + 20, settings=SETTINGS)
        assert any(isinstance(action, EnsureJob) for action in actions_) == creates


def test_the_slot_of_a_model_that_is_deleted_or_moved_is_free() -> None:
    """Its check is no longer one of the node."""
    observed = with_four_checks()
    moved = observed.models["default/m000"]
    status = msgspec.structs.replace(moved.status, placement=Placement(node="b"))
    metadata = msgspec.structs.replace(moved.metadata, resource_version="99")
    for event in (
        events.ModelDeleted(namespace="default", name="m000", uid=moved.uid, version=99),
        events.ModelObserved(model=msgspec.structs.replace(moved, metadata=metadata, status=status)),
    ):
        after = apply_events(observed, [Observation(event, NOW + 20)])
        assert list(touched(observed, after, event)) == ["default/m000", *WAITING]
        actions_ = list(deciding.decide(after, Memory(), "default/m003", NOW + 20, settings=SETTINGS))
        assert any(isinstance(action, EnsureJob) for action in actions_)


def status_of(model: Model, cached: Condition) -> Model:
    """Return a newer version of a Model with this Cached."""
    others = tuple(c for c in model.status.conditions if c.type != "Cached")
    metadata = msgspec.structs.replace(model.metadata, resource_version="99")
    status = msgspec.structs.replace(model.status, conditions=(*others, cached))
    return msgspec.structs.replace(model, metadata=metadata, status=status)


def test_a_check_whose_job_was_deleted_by_hand_is_created_again_at_once() -> None:
    """It holds its slot (reliability X20)."""
    checking = a_model(conditions=(*PLACED, ("Cached", "False", Reason.CHECKING)))
    parts = crowd(10)
    observed = a_state(*parts, holding(checking), checking)
    for part in parts:
        if isinstance(part, Model):
            cached = a_condition("Cached", "False", Reason.CHECKING)
            observed = assume(observed, status_of(part, cached))
    actions_ = list(deciding.decide(observed, Memory(), checking.key, NOW, settings=SETTINGS))
    assert actions_ == [ensured(checking)]


@pytest.mark.parametrize(
    ("phase", "storage_class", "waiting", "reason", "words"),
    [
        ("Lost", "fast", "Unschedulable: x", Reason.CLAIM_LOST, "kubectl delete pvc llama-cache -n default"),
        ("Pending", "", "Unschedulable: x", Reason.STORAGE_CLASS_MISSING, "the cluster no default one"),
        ("Pending", "fast", "Unschedulable: x", Reason.FETCHING, "its Pod waits: Unschedulable: x"),
        ("Pending", "", "", Reason.FETCHING, "downloading"),
        ("Bound", "fast", "ContainerCreating: ", Reason.FETCHING, "its Pod waits"),
    ],
)
def test_a_volume_that_a_download_will_not_get_is_the_reason(
    phase: str, storage_class: str, waiting: str, reason: Reason, words: str
) -> None:
    """And the Job stays: it starts by itself once the volume is there (reliability X21)."""
    model = a_model(conditions=PLACED, source="HF://a/b")
    claim = ClaimFacts(name="llama-cache", uid="pvc-1", phase=phase, storage_class=storage_class)
    workload = msgspec.structs.replace(
        holding(model, a_job(model, active=1, waiting=waiting)), claims=(claim,)
    )
    [action] = decided(model, workload)
    assert state(action) == ("False", reason)
    assert words in action.condition.message


@pytest.mark.parametrize(
    ("reason", "longest"),
    [(Reason.GATED_REPOSITORY, 60.0), (Reason.SECRET_NOT_FOUND, 60.0), (Reason.DISK_FULL, 900.0)],
)
def test_a_failure_that_a_secret_ends_is_looked_at_again_every_minute(reason: Reason, longest: float) -> None:
    """Nothing tells that a Secret was changed: no component may read one."""
    model = a_model(conditions=(*PLACED, ("Cached", "False", reason)), source="HF://a/b")
    memory = Memory()
    for _ in range(9):
        retried = JobRetried(key=model.key, uid=model.uid, digest=planned(model).digest)
        memory = remember(memory, retried, NOW)
    assert retry_of(model, planned(model), a_state(model), memory).seconds == longest


UNBOUND = "Unschedulable: 0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."


def a_pending_volume(model: Model, waiting: str, **job: Any) -> events.WorkloadObserved:
    """Return the workload of a Model whose StorageClass has made no volume yet."""
    claim = ClaimFacts(name="llama-cache", uid="pvc-1", phase="Pending", storage_class="fast", node="")
    facts: dict[str, Any] = {"active": 1, "waiting": waiting, **job}
    return msgspec.structs.replace(holding(model, a_job(model, **facts)), claims=(claim,))


def test_a_volume_that_is_not_made_within_a_minute_is_the_reason() -> None:
    """With the StorageClass, what the Pod says, and where its Events are (reliability X21)."""
    model = a_model(conditions=(*PLACED, ("Cached", "False", Reason.FETCHING)), source="HF://a/b")
    pending = a_pending_volume(model, UNBOUND)
    requeue, running = decided(model, pending, after=59)
    assert requeue == RequeueAt(NOW + PENDING_SECONDS)
    assert state(running) == ("False", Reason.FETCHING)
    [action] = decided(model, pending, after=PENDING_SECONDS)
    assert state(action) == ("False", Reason.CLAIM_PENDING)
    for words in ("StorageClass fast", UNBOUND, "kubectl describe pvc llama-cache -n default"):
        assert words in action.condition.message


def test_what_the_provisioner_wrote_is_the_reason_at_once() -> None:
    """Without a minute's wait, in its own words, and of this PVC alone (reliability X21)."""
    model = a_model(conditions=(*PLACED, ("Cached", "False", Reason.FETCHING)), source="HF://a/b")
    cause = "ProvisioningFailed: storageclass.storage.k8s.io is out of space"
    refused = ClaimRefused(key=model.key, uid=model.uid, claim_uid="pvc-1", cause=cause)
    memory = remember(Memory(), refused, NOW)
    observed = a_state(model, a_pending_volume(model, UNBOUND))
    [action] = decide(observed, memory, NOW, settings=SETTINGS)
    assert state(action) == ("False", Reason.CLAIM_PENDING)
    assert f"StorageClass fast makes no volume for it: {cause}. Remedy: " in action.condition.message
    other = remember(Memory(), msgspec.structs.replace(refused, claim_uid="pvc-0"), NOW)
    assert state(list(decide(observed, other, NOW, settings=SETTINGS))[-1]) == ("False", Reason.FETCHING)
    assert forget(memory, model.uid) == Memory()


def test_a_wait_whose_start_was_not_observed_yet_is_not_too_long() -> None:
    """The write that the download runs has not arrived."""
    model = a_model(conditions=(*PLACED, ("Cached", "False", Reason.FETCHING)), source="HF://a/b")
    there = msgspec.structs.replace(a_state(model, a_pending_volume(model, UNBOUND)), changed_at={})
    [action] = decide(there, Memory(), NOW + PENDING_SECONDS, settings=SETTINGS)
    assert state(action) == ("False", Reason.FETCHING)


def test_a_volume_that_is_pending_stays_the_reason_until_it_is_made() -> None:
    """Also when its Job ended meanwhile, which says nothing; then the download continues."""
    model = a_model(conditions=(*PLACED, ("Cached", "False", Reason.CLAIM_PENDING)), source="HF://a/b")
    assert state(decided(model, a_pending_volume(model, UNBOUND))[-1]) == ("False", Reason.CLAIM_PENDING)
    ended = a_pending_volume(model, "", active=0, failed_reason="DeadlineExceeded: too long")
    assert state(decided(model, ended)[-1]) == ("False", Reason.CLAIM_PENDING)
    bound = holding(model, a_job(model, active=1), pvc="llama-cache")
    assert state(decided(model, bound)[-1]) == ("False", Reason.FETCHING)


def test_a_volume_that_waits_for_a_node_is_not_the_reason() -> None:
    """Of a class that binds late, none is made before the Pod has a node."""
    model = a_model(conditions=(*PLACED, ("Cached", "False", Reason.FETCHING)), source="HF://a/b")
    pending = a_pending_volume(model, "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.")
    assert state(decided(model, pending, after=3600)[-1]) == ("False", Reason.FETCHING)


def test_a_cache_that_was_too_small_grows_before_the_next_try() -> None:
    """By what the download says that it lacks; a PVC of the user's own does not."""
    report = json.dumps({"reason": "DiskFull", "message": "full", "lacks": 7})
    for spec, lacks in ((None, 7), (Cache(pvc_name="mine"), 0)):
        model = a_model(conditions=(*PLACED, ("Cached", "False", Reason.DISK_FULL)), source="HF://a/b")
        model = msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, cache=spec))
        job = a_job(model, failed_reason="Failed: x", report=report)
        pvc = "mine" if spec is not None else "llama-cache"
        [action] = decided(model, holding(model, job, pvc=pvc), after=FIRST_RETRY)
        assert isinstance(action, DeleteJob)
        assert action.lacks == lacks


@pytest.mark.parametrize(
    ("report", "reason", "words"),
    [
        (
            {"left_out": "1 files that can run code (a.bin)"},
            Reason.CACHED,
            "; left out: 1 files that can run code (a.bin)",
        ),
        (
            {"unsafe": "1 files that can run code (a.bin)"},
            Reason.CACHED_UNSAFE,
            "as spec.config.allowUnsafeFormats allows",
        ),
    ],
)
def test_weights_that_can_run_code_show_a_warning(report: dict[str, Any], reason: Reason, words: str) -> None:
    """X16: and what was left out is named."""
    model = a_model(conditions=PLACED, source="HF://a/b")
    job = a_job(model, succeeded=1, complete=True, report=json.dumps({"bytes": 1, **report}))
    [action] = decided(model, holding(model, job, pvc="llama-cache"))
    assert state(action) == ("True", reason)
    assert words in action.condition.message


def test_a_deleted_pvc_is_read_again() -> None:
    """Only a change of its own inputs revokes Cached."""
    model = verified()
    gone = events.WorkloadObserved(namespace="default", name="llama")
    assert decided(model, gone) == [ensured(model, "")]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"backend": "ollama", "source": "ollama://llama3:8b"}, id="ollama"),
        pytest.param({"source": "HF://a/b", "config": {"ggufFile": "x.gguf"}}, id="hub"),
    ],
)
def test_what_nothing_keeps_needs_no_job(changes: dict[str, Any]) -> None:
    """The message says when the download happens."""
    model = a_model(conditions=PLACED, **changes)
    spec = msgspec.structs.replace(model.spec, cache=Cache(strategy="None"))
    model = msgspec.structs.replace(model, spec=spec)
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
    assert list(decide(observed, Memory(), NOW, settings=SETTINGS)) == []


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
            "download failed: noise Killed; retrying 15s after the failure",
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
