"""A cache grows to what its weights need, where that is allowed."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.model import Cache, Model
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher.effects import DeleteJob
from flexinfer.prefetcher.perform import perform
from flexinfer.runtime.kubernetes.api import ForbiddenError
from tests.builders import a_model
from tests.runtimes import a_runtime
from tests.unit.prefetcher.cluster import DictCluster

GIB = 2**30


def a_download(size: str | None = None) -> Model:
    """Return a Model whose weights are downloaded to a PVC of some size; None: the spec states none."""
    model = a_model(source="HF://org/repo", config={"ggufFile": "x.gguf"})
    return msgspec.structs.replace(
        model, spec=msgspec.structs.replace(model.spec, cache=Cache(size=size) if size else None)
    )


def a_cluster(
    model: Model, *, requested: str = "50Gi", capacity: str = "50Gi", expands: bool = True
) -> DictCluster:
    """Return a cluster with the cache of a Model."""
    cluster = DictCluster(model)
    claim: dict[str, Any] = {
        "metadata": {"name": "llama-cache"},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": requested}}},
        "status": {"phase": "Bound", "capacity": {"storage": capacity}},
    }
    cluster.put("persistentvolumeclaims", claim)
    cluster.put("storageclasses", {"metadata": {"name": "fast"}, "allowVolumeExpansion": expands})
    return cluster


async def grown(cluster: DictCluster, model: Model, lacks: int) -> str:
    """Return the size of the PVC after a download that lacked some bytes is tried again."""
    job = JobFacts(name="llama-fetch-1", uid="job-1")
    await perform(
        a_runtime("prefetcher", cluster=cluster),
        DeleteJob(model=model, job=job, retried="d", lacks=lacks),
    )
    assert cluster.deleted == [("jobs", "llama-fetch-1", "job-1")]
    claim = cluster.objects["persistentvolumeclaims", "llama-cache"]
    return str(claim["spec"]["resources"]["requests"]["storage"])


@pytest.mark.parametrize(
    ("world", "stated", "size"),
    [
        ({}, None, "72Gi"),
        ({"expands": False}, None, "50Gi"),
        ({"requested": "72Gi"}, None, "72Gi"),
        ({"requested": "60Gi"}, None, "72Gi"),
        ({}, "90Gi", "90Gi"),
        ({}, "40Gi", "50Gi"),
    ],
    ids=[
        "by what is missing and a tenth",
        "not where the class forbids it",
        "not again while it grows",
        "further than before",
        "to what the spec states",
        "never smaller",
    ],
)
async def test_a_cache_that_is_too_small_grows(world: dict[str, Any], stated: str | None, size: str) -> None:
    """From 50 GiB, with 20 GiB missing."""
    model = a_download(stated)
    assert await grown(a_cluster(model, **world), model, 20 * GIB) == size


async def test_a_growth_that_the_api_server_refuses_does_not_end_the_tries() -> None:
    """A quota, for one: the next download says again that the volume is full."""

    class Refusing(DictCluster):
        async def merge(self, *_: Any) -> Any:
            raise ForbiddenError("exceeded quota", 403)

    model = a_download()
    cluster = Refusing(model)
    cluster.objects |= a_cluster(model).objects
    assert await grown(cluster, model, GIB) == "50Gi"
