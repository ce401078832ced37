"""The prefetcher's effects: what they read before they act, and that each can be repeated."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import MODEL_LABEL, MODEL_UID_LABEL
from flexinfer.api.model import Cache, Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher import jobs
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.memory import EnsureFailed, JobRetried
from flexinfer.prefetcher.perform import perform
from flexinfer.runtime.kubernetes.api import ConflictError, ForbiddenError
from tests.builders import a_model
from tests.runtimes import a_runtime
from tests.unit.prefetcher.cluster import DictCluster

PLACED = ("Accepted", "Placed")


def a_download(**changes: Any) -> Model:
    """Return a Model whose weights are downloaded to a PVC."""
    return a_model(
        **({"source": "HF://org/repo", "config": {"ggufFile": "x.gguf"}, "conditions": PLACED} | changes)
    )


def without_cache(model: Model) -> Model:
    """Return the Model with a cache that keeps nothing."""
    spec = msgspec.structs.replace(model.spec, cache=Cache(strategy="None"))
    return msgspec.structs.replace(model, spec=spec)


async def ensured(cluster: DictCluster, model: Model, size: int = 10**9) -> tuple[str, str]:
    """Perform an EnsureJob, for files of a size; returns the reason and the message of Cached afterwards."""
    await perform(a_runtime("prefetcher", cluster=cluster), EnsureJob(model=model, size=size))
    cached = cluster.model().condition("Cached")
    return (cached.reason, cached.message) if cached is not None else ("", "")


async def test_a_download_gets_a_pvc_and_a_job() -> None:
    """The message names both ends of the download."""
    model = a_download()
    cluster = DictCluster(model)
    assert await ensured(cluster, model) == (Reason.FETCHING, "downloading org/repo to PVC llama-cache")
    assert cluster.names("persistentvolumeclaims") == ["llama-cache"]
    assert len(cluster.names("jobs")) == 1
    cache = cluster.model().status.cache
    assert cache is not None
    assert (cache.job_name, cache.job_phase) == (cluster.names("jobs")[0], "Pending")


async def test_an_effect_that_is_repeated_changes_nothing() -> None:
    """The Job and the PVC are found; the status is not written again."""
    model = a_download()
    cluster = DictCluster(model)
    await ensured(cluster, model)
    objects = dict(cluster.objects)
    await ensured(cluster, model)
    assert cluster.objects == objects


async def test_a_pvc_is_created_before_the_model_is_placed_but_no_job() -> None:
    """The Job runs on the Model's node."""
    model = a_download(conditions=("Accepted",))
    cluster = DictCluster(model)
    assert await ensured(cluster, model) == ("", "")
    assert cluster.names("persistentvolumeclaims") == ["llama-cache"]
    assert cluster.names("jobs") == []


async def test_a_missing_pvc_of_the_user_is_not_created() -> None:
    """The message says how to find those that exist."""
    model = a_model(conditions=PLACED)
    cluster = DictCluster(model)
    reason, message = await ensured(cluster, model)
    assert reason == Reason.CLAIM_NOT_FOUND
    assert message == (
        "PersistentVolumeClaim models does not exist in namespace default. "
        "Remedy: create it, or name another one in spec.source (kubectl get pvc -n default)"
    )
    assert cluster.names("persistentvolumeclaims") == cluster.names("jobs") == []


async def test_a_pvc_of_something_else_is_not_used() -> None:
    """Although it has the name of the Model's cache."""
    model = a_download()
    cluster = DictCluster(model)
    cluster.put(
        "persistentvolumeclaims", {"metadata": {"name": "llama-cache", "labels": {MODEL_LABEL: "other"}}}
    )
    reason, message = await ensured(cluster, model)
    assert reason == Reason.NAME_TAKEN
    assert "PersistentVolumeClaim llama-cache exists and does not belong to this model. Remedy: " in message
    assert cluster.names("jobs") == []


async def test_a_job_of_something_else_is_not_used() -> None:
    """It is left as it is, and named."""
    model = a_download()
    cluster = DictCluster(model)
    await ensured(cluster, model)
    [name] = cluster.names("jobs")
    cluster.put("jobs", {"metadata": {"name": name}})
    reason, message = await ensured(cluster, model)
    assert reason == Reason.NAME_TAKEN
    assert message.startswith(f"Job {name} exists and does not belong to this model. Remedy: ")


async def test_the_job_of_a_deleted_model_of_the_same_name_is_waited_for() -> None:
    """Kubernetes deletes it with its owner: the conflict is retried."""
    model = a_download()
    cluster = DictCluster(model)
    await ensured(cluster, model)
    [name] = cluster.names("jobs")
    cluster.put("jobs", {"metadata": {"name": name, "labels": {MODEL_UID_LABEL: "uid-deleted"}}})
    with pytest.raises(ConflictError, match="belongs to a deleted Model"):
        await ensured(cluster, model)


async def test_a_pvc_that_is_being_deleted_gets_no_job() -> None:
    """Its Pod would wait indefinitely; the event of its deletion ends the wait."""
    model = a_download()
    cluster = DictCluster(model)
    claim = jobs.pvc(model, "llama-cache")
    claim["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    cluster.put("persistentvolumeclaims", claim)
    reason, message = await ensured(cluster, model)
    assert (reason, cluster.names("jobs")) == (Reason.CLAIM_NOT_FOUND, [])
    assert message.endswith("a new one is created then")


async def test_a_storage_class_that_does_not_exist_is_said_and_its_pvc_is_created_once_it_does() -> None:
    """A PVC of a class that does not exist waits indefinitely (reliability X21)."""
    model = a_download()
    spec = msgspec.structs.replace(model.spec, cache=Cache(storage_class="fast"))
    model = msgspec.structs.replace(model, spec=spec)
    cluster = DictCluster(model)
    reason, message = await ensured(cluster, model)
    assert (reason, cluster.names("persistentvolumeclaims")) == (Reason.STORAGE_CLASS_MISSING, [])
    assert message.startswith("StorageClass fast does not exist. Remedy: ")
    cluster.put("storageclasses", {"metadata": {"name": "fast"}})
    assert (await ensured(cluster, model))[0] == Reason.FETCHING


@pytest.mark.parametrize(
    "current",
    [
        pytest.param(a_download(uid="uid-newer"), id="replaced"),
        pytest.param(a_download(deletion_timestamp="2026-11-24T10:00:00Z"), id="deleting"),
        pytest.param(a_download(conditions=(("Accepted", "False", "InvalidConfig"),)), id="refused"),
        pytest.param(without_cache(a_download()), id="needs no Job"),
    ],
)
async def test_a_model_that_changed_since_the_decision_gets_nothing(current: Model) -> None:
    """It is read first."""
    cluster = DictCluster(current)
    objects = dict(cluster.objects)
    await ensured(cluster, a_download())
    assert cluster.objects == objects


async def test_a_rejection_by_the_api_server_is_reported() -> None:
    """With the API server's own words."""
    model = a_download()
    cluster = DictCluster(model)

    def reject(plural: str) -> None:
        if plural == "jobs":
            raise ForbiddenError("exceeded quota: jobs", 403)

    cluster.before_create = reject
    assert await ensured(cluster, model) == (
        Reason.FETCH_FAILED,
        "the API server rejected the PVC or the Job: exceeded quota: jobs; retrying within 5m",
    )


async def test_what_could_not_be_created_is_remembered() -> None:
    """So that it is not tried every 10 s."""
    model = a_model(conditions=PLACED)
    replies = await perform(
        a_runtime("prefetcher", cluster=DictCluster(model)), EnsureJob(model=model, digest="d")
    )
    assert EnsureFailed(key=model.key, uid=model.uid, digest="d") in replies


async def test_a_deleted_cache_is_made_again_and_said() -> None:
    """The Model was cached: the message says why it is downloaded again."""
    model = a_download(conditions=(*PLACED, "Cached"))
    cluster = DictCluster(model)
    reason, message = await ensured(cluster, model)
    assert reason == Reason.FETCHING
    assert message.endswith("; PVC llama-cache was deleted and has been created again")
    assert cluster.names("persistentvolumeclaims") == ["llama-cache"]


async def test_a_job_that_is_deleted_for_another_try_is_counted() -> None:
    """Its digest tells one kind of failure from another."""
    model = a_download()
    action = DeleteJob(model=model, job=JobFacts(name="llama-fetch-1", uid="job-1"), retried="d")
    [fact] = await perform(a_runtime("prefetcher", cluster=DictCluster(model)), action)
    assert fact == JobRetried(key=model.key, uid=model.uid, digest="d")


async def test_a_job_is_deleted_by_its_uid() -> None:
    """A newer Job of the same name is not."""
    model = a_download()
    cluster = DictCluster(model)
    action = DeleteJob(model=model, job=JobFacts(name="llama-fetch-1", uid="job-1"))
    assert await perform(a_runtime("prefetcher", cluster=cluster), action) == ()
    assert cluster.deleted == [("jobs", "llama-fetch-1", "job-1")]
