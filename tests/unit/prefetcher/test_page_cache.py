"""Strategy Memory: weights on a PVC that a Job keeps in the page cache of the Model's node."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import DEFAULT_CLASS_ANNOTATION
from flexinfer.api.model import Cache, CacheStatus, Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher import decide as deciding
from flexinfer.prefetcher import jobs, page_cache
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.memory import EnsureFailed, JobRetried, Memory, remember
from flexinfer.prefetcher.perform import perform
from flexinfer.prefetcher.plan import FETCH, KEEP, LIST, Plan, PrefetchSettings, plan_of
from flexinfer.runtime.kubernetes.api import ForbiddenError
from flexinfer.state.actions import RequeueAt, WriteStatus
from tests.builders import NOW, a_condition, a_model, a_state
from tests.keyed import on_all_models
from tests.runtimes import a_runtime
from tests.unit.prefetcher.cluster import DictCluster

decide = on_all_models(deciding.decide)
SETTINGS = PrefetchSettings(image="ours")
SIZE = 4_900_000_000
MESSAGE = "PVC llama-cache contains org/repo (4,900,000,000 bytes)"


def a_download(strategy: str = "Memory", *, conditions: tuple[Any, ...] = (), **changes: Any) -> Model:
    """Return a Model of a repository with a strategy."""
    fields = {"source": "HF://org/repo", "config": {"ggufFile": "x.gguf"}}
    placed = ("Placed", changes.pop("placed", "True"), "")
    model = a_model(**(fields | changes), conditions=("Accepted", placed, *conditions))
    return msgspec.structs.replace(
        model, spec=msgspec.structs.replace(model.spec, cache=Cache(strategy=strategy))
    )


def fetching(model: Model) -> Plan:
    """Return the plan of a Model's download to its PVC."""
    plan = plan_of(model, SETTINGS)
    assert plan is not None
    return plan.with_pvc("pvc-1")


def cached(strategy: str = "Memory", message: str = MESSAGE, **changes: Any) -> Model:
    """Return a Model whose weights are complete, as its status says."""
    condition = msgspec.structs.replace(a_condition("Cached"), message=message)
    model = a_download(strategy, conditions=(condition,), **changes)
    cache = CacheStatus(
        strategy=strategy, ready=True, pvc_name="llama-cache", job_name=fetching(model).job_name(model),
        job_phase="Succeeded", revision="abc", bytes=SIZE, total_bytes=SIZE, progress="4.9 GB", message=message,
    )  # fmt: skip
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, cache=cache))


def keeper(model: Model, **facts: Any) -> JobFacts:
    """Return the Job that keeps a Model's weights in memory."""
    keeping = page_cache.plan_of(model, fetching(model))
    assert keeping is not None
    all_facts: dict[str, Any] = {"name": keeping.job_name(model), "uid": "job-1", "active": 1}
    return JobFacts(**(all_facts | facts))


def decided(
    model: Model, *observed: JobFacts, memory: Memory | None = None, after: float = 0.0, **claim: Any
) -> list[Any]:
    """Return what is decided about a Model with a PVC and Jobs."""
    claims = (ClaimFacts(name="llama-cache", uid="pvc-1", **claim),)
    workload = events.WorkloadObserved(namespace="default", name="llama", jobs=observed, claims=claims)
    return list(decide(a_state(model, workload), memory or Memory(), NOW + after, settings=SETTINGS))


def message_of(actions: list[Any]) -> str:
    """Return the message of the only action, which keeps the condition True."""
    [write] = actions
    assert isinstance(write, WriteStatus)
    assert write.condition.true
    return write.condition.message


def test_weights_that_are_complete_are_kept_in_memory() -> None:
    """By a Job, after Cached is True."""
    model = cached()
    [action] = decided(model)
    assert isinstance(action, EnsureJob)
    assert action.kind == KEEP


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(cached("SharedPVC"), id="another strategy"),
        pytest.param(a_download(), id="not complete"),
        pytest.param(cached(placed="False"), id="without a node"),
    ],
)
def test_nothing_else_is_kept_in_memory(model: Model) -> None:
    """Another strategy, weights that are not complete, a Model without a node."""
    assert page_cache.plan_of(model, fetching(model)) is None


def test_the_job_requests_the_memory_of_the_files_and_reads_as_the_engine_does() -> None:
    """It only reads, has no deadline, and the scheduler counts what it asks for."""
    model = cached()
    keeping = page_cache.plan_of(model, fetching(model))
    assert keeping is not None
    spec = jobs.keeping(model, keeping, SIZE, "ours")["spec"]
    [container] = spec["template"]["spec"]["containers"]
    assert "activeDeadlineSeconds" not in spec
    assert container["command"] == ["python", "-m", "flexinfer.prefetcher.keep"]
    assert container["args"] == [keeping.location.path]
    assert container["resources"]["requests"]["memory"] == "4738Mi"
    assert container["resources"]["limits"]["memory"] == "4738Mi"
    assert [mount.get("readOnly") for mount in container["volumeMounts"]] == [True]
    assert spec["template"]["spec"]["securityContext"]["runAsNonRoot"]


@pytest.mark.parametrize(
    ("wanted", "ready", "created"), [("True", "False", 0), ("True", "True", 1), ("False", "False", 1)]
)
def test_an_engine_that_starts_comes_first(wanted: str, ready: str, created: int) -> None:
    """Where the node has no memory for both, the engine has it: what keeps files for the next start is created afterwards."""
    model = cached()
    extra = (a_condition("Wanted", wanted), a_condition("Ready", ready))
    status = msgspec.structs.replace(model.status, conditions=(*model.status.conditions, *extra))
    starting = msgspec.structs.replace(model, status=status)
    assert len(decided(starting)) == created
    assert not [action for action in decided(starting, keeper(model)) if isinstance(action, DeleteJob)]


def test_that_they_are_kept_is_said_and_the_job_left_alone() -> None:
    """Once its Pod runs."""
    model = cached()
    said = message_of(decided(model, keeper(model, address="10.0.0.1")))
    assert said == f"{MESSAGE}; in memory: kept on node a"
    assert decided(cached(message=said), keeper(model, address="10.0.0.1")) == []


def test_a_node_without_the_memory_is_said_with_the_remedy() -> None:
    """The engine starts all the same: the condition stays True."""
    model = cached()
    waiting = "Unschedulable: 0/1 nodes are available: 1 Insufficient memory."
    said = message_of(decided(model, keeper(model, waiting=waiting)))
    assert said.startswith(f"{MESSAGE}; in memory: not kept, the engine starts from the disk: ")
    assert "requests 4.9 GB on node a" in said
    assert "1 Insufficient memory. Remedy: free memory on the node" in said
    assert message_of(decided(cached(message=said), keeper(model, address="10.0.0.1"))).endswith(
        "kept on node a"
    )


@pytest.mark.parametrize(
    ("model", "claim"),
    [
        pytest.param(cached("SharedPVC"), {}, id="another strategy"),
        pytest.param(cached(placement=Placement(node="b")), {}, id="another node"),
        pytest.param(cached(), {"deleting": True}, id="a PVC that is being deleted"),
    ],
)
def test_a_job_that_is_not_wanted_any_more_is_deleted(model: Model, claim: dict[str, Any]) -> None:
    """A PVC that is being deleted would stay for as long as the Job has a Pod."""
    job = keeper(cached())
    assert DeleteJob(model=model, job=job) in decided(model, job, **claim)


def test_a_job_that_ended_is_made_again_with_back_off() -> None:
    """At once the first time: a drained node, an eviction."""
    model = cached()
    job = keeper(model, active=0, failed_reason="BackoffLimitExceeded: it failed", report="killed")
    said = message_of(decided(model, job))
    assert "does not run: killed. Remedy: " in said
    model = cached(message=said)
    [action] = decided(model, job)
    assert isinstance(action, DeleteJob)
    memory = remember(Memory(), JobRetried(key=model.key, uid=model.uid, digest=action.retried), NOW)
    [wait] = decided(model, job, memory=memory)
    assert isinstance(wait, RequeueAt)
    assert isinstance(decided(model, job, memory=memory, after=wait.at - NOW)[0], DeleteJob)


async def test_the_effect_creates_the_job_once() -> None:
    """Of the Model as it is now, with the uid of its PVC."""
    model, cluster = prepared()
    for _ in range(2):
        await perform(a_runtime("prefetcher", cluster=cluster), EnsureJob(model=model, kind=KEEP))
    assert cluster.names("jobs") == [keeper(model).name]


async def test_a_job_that_may_not_be_created_leaves_the_condition() -> None:
    """The weights are complete all the same; it is tried again with back-off."""
    model, cluster = prepared()

    def refuse(plural: str) -> None:
        raise ForbiddenError(f"exceeded quota: {plural}", 403)

    cluster.before_create = refuse
    replies = await perform(a_runtime("prefetcher", cluster=cluster), EnsureJob(model=model, kind=KEEP))
    assert [type(reply) for reply in replies[1:]] == [EnsureFailed]
    condition = cluster.model().condition("Cached")
    assert condition is not None
    assert condition.true


def prepared() -> tuple[Model, DictCluster]:
    """Return a Model whose weights are complete, and a cluster that has both."""
    model = cached()
    cluster = DictCluster(model)
    claim = jobs.pvc(model, "llama-cache")
    claim["metadata"]["uid"] = "pvc-1"
    cluster.put("persistentvolumeclaims", claim)
    return model, cluster


@pytest.mark.parametrize(("default", "reason"), [("true", Reason.FETCHING), ("false", Reason.NO_CLAIM)])
async def test_without_a_default_storage_class_the_weights_are_in_memory_alone(
    default: str, reason: Reason
) -> None:
    """The condition is True, says that every start downloads, and the engine's Pod follows from it."""
    model = a_download()
    cluster = DictCluster(model)
    cluster.put(
        "storageclasses", {"metadata": {"name": "s", "annotations": {DEFAULT_CLASS_ANNOTATION: default}}}
    )
    await perform(a_runtime("prefetcher", cluster=cluster), EnsureJob(model=model, kind=LIST))
    condition = cluster.model().condition("Cached")
    assert condition is not None
    assert (condition.reason, cluster.names("persistentvolumeclaims")) == (reason, [])
    plan = plan_of(cluster.model(), SETTINGS)
    assert plan is not None
    assert (plan.kind, bool(plan.pvc)) == ((FETCH, True) if default == "true" else ("", False))
    assert ("downloaded to memory at every start" in condition.message) == (default == "false")
