"""The progress of a download: asked once a second, published each time, written every ten seconds."""

import asyncio
import json
from typing import Any

import pytest

from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher import messages
from flexinfer.prefetcher.decide import decide
from flexinfer.prefetcher.memory import Fact, JobRetried, Memory, ProgressSeen, forget, remember
from flexinfer.prefetcher.plan import PrefetchSettings, plan_of
from flexinfer.prefetcher.progress import EVERY_SECONDS, ProgressReader
from flexinfer.state.actions import WriteStatus
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_model, a_state
from tests.runtimes import ListBus, a_runtime

SETTINGS = PrefetchSettings(image="ours")
GB = 10**9


def a_download(**changes: Any) -> Model:
    """Return a Model whose weights are downloaded."""
    return a_model(source="HF://a/b", **({"conditions": ("Accepted", "Placed")} | changes))


def job_of(model: Model, **changes: Any) -> JobFacts:
    """Return the Job of its download, which runs."""
    plan = plan_of(model, SETTINGS)
    assert plan is not None
    name = plan.with_pvc("pvc-1").job_name(model)
    facts: dict[str, Any] = {"name": name, "uid": "job-1", "active": 1, "address": "10.0.0.7"}
    return JobFacts(**(facts | changes))


def observed(model: Model, *jobs: JobFacts) -> ObservedState:
    """Return the state with a Model, its PVC and Jobs."""
    claims = (ClaimFacts(name="llama-cache", uid="pvc-1"),)
    workload = events.WorkloadObserved(namespace="default", name="llama", jobs=jobs, claims=claims)
    return a_state(model, workload)


class Pods:
    """The Pods of downloads: what was asked, and what they answer."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, url: str) -> bytes:
        """Answer."""
        self.asked.append(url)
        return self.answer


async def watched(
    state: ObservedState, pods: Pods, seconds: int, *, leader: bool = True
) -> tuple[list[Any], list[Fact]]:
    """Run the reader for some seconds of virtual time; returns what was published and remembered."""
    reader, bus, facts, now = ProgressReader(pods.ask), ListBus(), list[Fact](), [0.0]
    ended = asyncio.Event()

    async def sleep(length: float) -> None:
        now[0] += length
        if now[0] >= seconds:
            ended.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    runtime = a_runtime("prefetcher", bus=bus, sleep=sleep, clock=lambda: now[0], is_leader=lambda: leader)
    reader.touch(["default/llama"])
    reader.observe(state, Memory())
    task = asyncio.ensure_future(reader.watch(runtime, facts.append))
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        task.cancel()
    return bus.published, facts


ANSWER = json.dumps({"bytes": GB, "totalBytes": 4 * GB, "bytesPerSecond": 10**7, "file": "a.gguf"}).encode()


async def test_a_download_is_asked_every_second_and_written_every_ten() -> None:
    """At the address of its Pod."""
    model, pods = a_download(), Pods(ANSWER)
    published, facts = await watched(observed(model, job_of(model)), pods, 21)
    assert EVERY_SECONDS == 1.0
    assert set(pods.asked) == {"http://10.0.0.7:8082/"}
    assert len(published) == len(pods.asked) == 21
    assert len(facts) == 3
    assert published[0] == events.DownloadObserved(
        namespace="default", name="llama", uid=model.uid, job=job_of(model).name, bytes=GB, total_bytes=4 * GB,
        bytes_per_second=10**7, file="a.gguf",
    )  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[" * 5000, b'{"bytes": -1, "totalBytes": 5}', b'{"bytes": 1e99, "totalBytes": 5}', b'{"bytes": 0, "totalBytes": 0}',
     b'{"bytes": 1, "totalBytes": 5, "file": "\xff"}', b'{"bytes": 1, "totalBytes": 5, "file": "\\ud800"}', b'{"file": ' + b"[" * 5000],
)  # fmt: skip
async def test_what_is_no_progress_counts_for_nothing(answer: bytes) -> None:
    """The program does not listen yet, or another answers at its address."""
    model = a_download()
    assert await watched(observed(model, job_of(model)), Pods(answer), 3) == ([], [])


async def test_a_standby_asks_nothing() -> None:
    """One replica publishes."""
    model, pods = a_download(), Pods(ANSWER)
    await watched(observed(model, job_of(model)), pods, 3, leader=False)
    assert pods.asked == []


def decided(model: Model, memory: Memory, *jobs: JobFacts) -> list[Any]:
    """Return what is decided."""
    return list(decide(observed(model, *jobs), memory, model.key, NOW, settings=SETTINGS))


def seen(model: Model, **changes: Any) -> ProgressSeen:
    """Return the progress of a Model's download."""
    sizes = {"bytes": 1_850_000_000, "total_bytes": 5 * GB, "bytes_per_second": 25_000_000} | changes
    return ProgressSeen(key=model.key, uid=model.uid, job=job_of(model).name, **sizes)


def test_the_status_has_bytes_rate_and_time_left() -> None:
    """The write is no transition when nothing but them has changed."""
    model = a_download()
    [first] = decided(model, Memory(), job_of(model))
    assert not first.quiet
    model = a_download(
        conditions=("Accepted", "Placed", first.condition), cache_status=first.status.cache, version=2
    )
    [write] = decided(model, remember(Memory(), seen(model), NOW), job_of(model))
    cache = write.status.cache
    assert (cache.bytes, cache.total_bytes, cache.bytes_per_second, cache.eta_seconds) == (
        1_850_000_000, 5 * GB, 25_000_000, 126,
    )  # fmt: skip
    assert cache.progress == "37% of 5.0 GB, 3m left"
    assert write.quiet


def test_a_download_that_moves_is_fetching_although_it_failed_before() -> None:
    """The cause has gone: its bytes say so before its Job has ended."""
    gated = ("Cached", "False", Reason.GATED_REPOSITORY)
    model = a_download(conditions=("Accepted", "Placed", gated))
    plan = plan_of(model, SETTINGS)
    assert plan is not None
    retried = JobRetried(key=model.key, uid=model.uid, digest=plan.with_pvc("pvc-1").digest)
    memory = remember(Memory(), retried, NOW)
    assert decided(model, memory, job_of(model)) == []
    [write] = decided(model, remember(memory, seen(model), NOW), job_of(model))
    assert isinstance(write, WriteStatus)
    assert write.condition.reason == Reason.FETCHING


def test_the_progress_of_a_job_ends_with_it() -> None:
    """Another Job of the same name begins at nothing."""
    model = a_download()
    memory = remember(Memory(), seen(model), NOW)
    assert memory.progress_of(model.uid, job_of(model).name) == seen(model)
    assert memory.progress_of(model.uid, "another") is None
    assert remember(memory, JobRetried(key=model.key, uid=model.uid, digest="d"), NOW).progress == {}
    assert forget(memory, model.uid) == Memory()


@pytest.mark.parametrize(
    ("done", "total", "eta", "text"),
    [
        (0, 0, 0, ""),
        (0, 4_900_000_000, 0, "0% of 4.9 GB"),
        (1_813_000_000, 4_900_000_000, 120, "37% of 4.9 GB, 2m left"),
        (1, 812_000_000, 59, "0% of 812 MB, 59s left"),
        (1, 40 * GB, 3900, "0% of 40.0 GB, 1h 5m left"),
        (4_900_000_000, 4_900_000_000, 0, "4.9 GB"),
        (3000, 3000, 0, "3 kB"),
        (7, 7, 0, "7 bytes"),
    ],
)
def test_progress_is_said_as_people_say_it(done: int, total: int, eta: int, text: str) -> None:
    """The column CACHE of kubectl get mdl."""
    assert messages.progress(done, total, eta) == text
