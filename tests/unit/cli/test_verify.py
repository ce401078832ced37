"""`flexinfer verify`: a Job with the volume of the weights, its result, and the refusals."""

import json
from typing import Any

import pytest

from flexinfer.api.kinds import Kind
from flexinfer.api.model import CacheStatus, Model
from flexinfer.cli.errors import CommandError
from flexinfer.cli.verify import verified
from tests.builders import a_model
from tests.unit.prefetcher.cluster import DictCluster

READY = CacheStatus(ready=True, pvc_name="llama-cache")


class RunningCluster(DictCluster):
    """A cluster whose Jobs end at once, with a report."""

    def __init__(self, model: Model, condition: str, report: dict[str, Any]) -> None:
        super().__init__(model)
        self.condition, self.report = condition, report

    async def create(self, kind: Kind[Any], namespace: str, body: dict[str, Any]) -> Any:
        """Create a Job that has ended, and its Pod."""
        ended = {"conditions": [{"type": self.condition, "status": "True"}]}
        labels = {"job-name": body["metadata"]["name"]}
        terminated = {"exitCode": 0, "message": json.dumps(self.report)}
        status = {"containerStatuses": [{"name": "verify", "state": {"terminated": terminated}}]}
        self.put("pods", {"metadata": {"name": "p", "labels": labels}, "spec": {}, "status": status})
        return await super().create(kind, namespace, {**body, "status": ended})


def downloaded(**changes: Any) -> Model:
    """Return a Model whose weights are downloaded."""
    fields: dict[str, Any] = {"source": "HF://a/b", "cache_status": READY} | changes
    return a_model(**fields)


@pytest.mark.parametrize(
    ("condition", "report", "status", "words"),
    [
        (
            "Complete",
            {"revision": "c0ffee", "bytes": 4_900_000_000},
            0,
            "4.9 GB are what was downloaded (revision c0ffee)",
        ),
        (
            "Failed",
            {"reason": "ChecksumMismatch", "message": "1 of 2 files"},
            1,
            "1 of 2 files. Remedy: kubectl delete pvc llama-cache",
        ),
    ],
)
async def test_the_result_of_the_job_is_told(
    condition: str, report: dict[str, Any], status: int, words: str
) -> None:
    """And the Job is deleted."""
    model, told = downloaded(), list[str]()
    cluster: Any = RunningCluster(model, condition, report)
    assert await verified(cluster, model, 5, told.append) == status
    assert words in told[0]
    [job] = [body for (plural, _), body in cluster.objects.items() if plural == "jobs"]
    spec = job["spec"]["template"]["spec"]
    assert spec["volumes"] == [{"name": "weights", "persistentVolumeClaim": {"claimName": "llama-cache"}}]
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True
    assert cluster.deleted == [("jobs", "llama-verify", job["metadata"]["uid"])]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "pvc://c/a.gguf"}, "has no manifest"),
        ({"cache_status": None}, "is not downloaded completely"),
    ],
)
async def test_what_was_not_downloaded_cannot_be_verified(changes: dict[str, Any], words: str) -> None:
    """No Job is created for it."""
    model = downloaded(**changes)
    cluster: Any = DictCluster(model)
    with pytest.raises(CommandError, match=words):
        await verified(cluster, model, 5, print)
    assert cluster.names("jobs") == []
