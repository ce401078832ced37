"""The reader of provisioners' Events: the newest warning on a PVC that a Job waits for, and nothing else."""

import asyncio
from typing import Any

import msgspec
import pytest

from flexinfer.api import kube
from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher.memory import ClaimRefused, Fact, Memory
from flexinfer.prefetcher.provisioner import ProvisionerReader, cause_of
from tests.builders import a_model, a_state
from tests.runtimes import a_runtime
from tests.unit.prefetcher.cluster import DictCluster, Json

DOWNLOAD = a_model(source="HF://a/b")


def a_workload(phase: str = "Pending", storage_class: str = "fast", **job: Any) -> events.WorkloadObserved:
    """Return the workload of a Model whose Job waits for its PVC."""
    claim = ClaimFacts(name="llama-cache", uid="pvc-1", phase=phase, storage_class=storage_class)
    facts: dict[str, Any] = {"name": "llama-fetch-1", "uid": "job-1", "active": 1}
    return events.WorkloadObserved(
        namespace="default", name="llama", jobs=(JobFacts(**(facts | job)),), claims=(claim,)
    )


def an_event(name: str, message: str, at: str, **changes: Any) -> Json:
    """Return a warning of a provisioner on the PVC."""
    about = {"kind": "PersistentVolumeClaim", "name": "llama-cache", "uid": "pvc-1"}
    body: Json = {
        "metadata": {"name": name},
        "involvedObject": about | changes.pop("about", {}),
        "type": "Warning",
        "reason": "ProvisioningFailed",
        "message": message,
        "lastTimestamp": at,
    }
    return body | changes


async def read(
    cluster: DictCluster, workload: events.WorkloadObserved, model: Model = DOWNLOAD
) -> list[Fact]:
    """Return what the reader remembers within three rounds."""
    reader, facts, rounds = ProvisionerReader(), list[Fact](), asyncio.Semaphore(0)

    async def sleep(_seconds: float) -> None:
        rounds.release()
        await asyncio.sleep(0)

    reader.touch([model.key])
    reader.observe(a_state(model, workload), Memory())
    task = asyncio.ensure_future(
        reader.watch(a_runtime("prefetcher", cluster=cluster, sleep=sleep), facts.append)
    )
    try:
        for _ in range(3):
            await asyncio.wait_for(rounds.acquire(), 5)
    finally:
        task.cancel()
    return facts


async def test_the_newest_warning_of_the_pvc_is_remembered_once() -> None:
    """In the provisioner's own words, on one line."""
    cluster = DictCluster(DOWNLOAD)
    cluster.put("events", an_event("a", "no capacity", "2026-11-24T10:00:00Z"))
    cluster.put("events", an_event("b", "quota\nexceeded", "2026-11-24T10:00:09Z"))
    cluster.put("events", an_event("c", "of another", "2026-11-24T11:00:00Z", about={"uid": "pvc-0"}))
    cluster.put("events", an_event("d", "waiting", "2026-11-24T11:00:00Z", type="Normal"))
    refused = ClaimRefused(
        key="default/llama", uid="uid-llama", claim_uid="pvc-1", cause="ProvisioningFailed: quota exceeded"
    )
    assert await read(cluster, a_workload()) == [refused]


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(a_workload(phase="Bound"), id="bound"),
        pytest.param(a_workload(storage_class=""), id="no class"),
        pytest.param(a_workload(address="10.0.0.1"), id="the Job runs"),
        pytest.param(a_workload(complete=True), id="the Job is complete"),
    ],
)
async def test_nothing_is_read_while_no_volume_is_waited_for(workload: events.WorkloadObserved) -> None:
    """The reader rests until the state changes."""
    reader = ProvisionerReader()
    reader.touch([DOWNLOAD.key])
    reader.observe(a_state(DOWNLOAD, workload), Memory())
    facts: list[Fact] = []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.watch(a_runtime("prefetcher", cluster=None), facts.append), 0)
    assert not facts


def test_a_newer_series_wins_over_an_older_event() -> None:
    """Both forms of Events carry their time."""
    old = msgspec.convert(an_event("a", "old", "2026-11-24T10:00:00Z"), kube.Event)
    series = an_event("b", "new", "", series={"lastObservedTime": "2026-11-24T10:00:01.000000Z"})
    assert cause_of([msgspec.convert(series, kube.Event), old]) == "ProvisioningFailed: new"
    assert cause_of([]) == ""
