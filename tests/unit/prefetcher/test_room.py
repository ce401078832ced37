"""The size of a cache that the spec leaves open: the files are listed by a Job without a volume, before the PVC is created."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.model import Cache, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import ClaimFacts, JobFacts
from flexinfer.prefetcher import decide as deciding
from flexinfer.prefetcher import room
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.jobs import job
from flexinfer.prefetcher.memory import EnsureFailed, Memory, remember
from flexinfer.prefetcher.perform import perform
from flexinfer.prefetcher.plan import FETCH, LIST, Plan, PrefetchSettings, plan_of
from flexinfer.state.actions import RequeueAt, WriteStatus
from tests.builders import NOW, a_model, a_state
from tests.keyed import on_all_models
from tests.runtimes import a_runtime
from tests.unit.prefetcher.cluster import DictCluster

decide = on_all_models(deciding.decide)
SETTINGS = PrefetchSettings(image="ours")
GIB = 2**30


def a_download(cache: Cache | None = None, **changes: Any) -> Model:
    """Return a Model of a repository that is accepted and placed."""
    fields = {
        "source": "HF://org/repo",
        "config": {"ggufFile": "x.gguf"},
        "conditions": ("Accepted", "Placed"),
    }
    model = a_model(**(fields | changes))
    return msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, cache=cache))


def planned(model: Model, uid: str = "") -> Plan:
    """Return the plan of a Model with a PVC; none exists without a uid."""
    plan = plan_of(model, SETTINGS)
    assert plan is not None
    return plan.with_pvc(uid).first()


def decided(model: Model, *jobs: JobFacts, uid: str = "", memory: Memory | None = None) -> list[Any]:
    """Return what is decided about a Model with Jobs, and a PVC if that has a uid."""
    claims = (ClaimFacts(name="llama-cache", uid=uid),) if uid else ()
    workload = events.WorkloadObserved(namespace="default", name="llama", jobs=jobs, claims=claims)
    return list(decide(a_state(model, workload), memory or Memory(), NOW, settings=SETTINGS))


def a_listing(model: Model, **facts: Any) -> JobFacts:
    """Return the Job that lists a Model's files."""
    return JobFacts(**({"name": planned(model).job_name(model), "uid": "job-1"} | facts))


@pytest.mark.parametrize(
    ("size", "claim"),
    [
        (1, "2Gi"),
        (GIB, "2Gi"),
        (4_900_000_000, "6Gi"),
        (40 * GIB, "44Gi"),
        (0, room.WITHOUT_SIZES),
        (room.UNKNOWN, room.WITHOUT_SIZES),
    ],
)
def test_a_pvc_has_a_tenth_more_than_its_files_and_at_least_1_gib(size: int, claim: str) -> None:
    """In whole GiB; files without a size get what every cache had before."""
    assert room.of_files(size) == claim


@pytest.mark.parametrize(
    ("cache", "uid", "kind"),
    [
        pytest.param(None, "", LIST, id="nothing is said"),
        pytest.param(Cache(), "", LIST, id="no size"),
        pytest.param(None, "pvc-1", FETCH, id="the PVC exists"),
        pytest.param(Cache(size="10Gi"), "", FETCH, id="a size"),
        pytest.param(Cache(pvc_name="mine"), "", FETCH, id="a PVC of the user"),
    ],
)
def test_files_are_listed_only_for_a_pvc_that_does_not_exist_and_has_no_size(
    cache: Cache | None, uid: str, kind: str
) -> None:
    """A Model with a ready cache needs no Job more than before."""
    assert planned(a_download(cache), uid).kind == kind


def test_a_listing_mounts_no_weights_and_runs_the_downloads_program() -> None:
    """With the same token, and reaching the same hub."""
    model = a_download()
    manifest = job(model, planned(model), SETTINGS)["spec"]["template"]
    [container] = manifest["spec"]["containers"]
    assert container["command"] == ["python", "-m", "flexinfer.prefetcher.download"]
    assert "--list" in container["args"]
    assert [volume["name"] for volume in manifest["spec"]["volumes"]] == ["hub-token"]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["hub-token"]
    assert manifest["metadata"]["labels"]["flexinfer.ai/fetches"] == "true"


def test_a_pvc_is_created_for_the_size_that_was_listed() -> None:
    """Once the listing is complete."""
    model = a_download()
    listing = a_listing(model, complete=True, report='{"revision": "abc", "bytes": 4900000000}')
    [action] = decided(model, listing)
    assert action == EnsureJob(model=model, digest=planned(model).digest, kind=LIST, size=4_900_000_000)


def test_a_listing_without_sizes_ends_too() -> None:
    """It is not asked again and again."""
    model = a_download()
    [action] = decided(model, a_listing(model, complete=True))
    assert (action.kind, action.size) == (LIST, room.UNKNOWN)


def test_what_the_hub_refuses_is_said_with_no_pvc() -> None:
    """At once, by the reason of the download."""
    model = a_download()
    report = '{"reason": "GatedRepository", "message": "org/repo is gated. Remedy: accept its terms"}'
    [write] = decided(model, a_listing(model, failed_reason="BackoffLimitExceeded: it failed", report=report))
    assert isinstance(write, WriteStatus)
    assert write.condition.reason == Reason.GATED_REPOSITORY
    assert write.condition.message.startswith("listing failed: org/repo is gated.")


def test_no_download_is_deleted_while_its_pvc_is_not_observed_yet() -> None:
    """Its Job may be seen before the PVC that was created with it."""
    model = a_download()
    download = JobFacts(name=planned(model, "pvc-1").job_name(model), uid="job-2", active=1)
    assert not [action for action in decided(model, download) if isinstance(action, DeleteJob)]


def test_a_listing_goes_once_the_pvc_exists() -> None:
    """It has said what it was for."""
    model = a_download()
    listing = a_listing(model, complete=True)
    assert DeleteJob(model=model, job=listing) in decided(model, listing, uid="pvc-1")


def test_a_pvc_that_cannot_be_created_is_tried_again_with_back_off() -> None:
    """The listing stays meanwhile."""
    model = a_download()
    failed = EnsureFailed(key=model.key, uid=model.uid, digest=planned(model).digest)
    memory = remember(Memory(), failed, NOW)
    [action] = decided(model, a_listing(model, complete=True), memory=memory)
    assert isinstance(action, RequeueAt)


async def test_the_effect_creates_the_listing_then_the_pvc_with_the_download() -> None:
    """Whether the PVC exists is read first: it may not have been observed yet."""
    model = a_download()
    cluster = DictCluster(model)
    runtime = a_runtime("prefetcher", cluster=cluster)
    await perform(runtime, EnsureJob(model=model, kind=LIST))
    [listing] = cluster.names("jobs")
    assert (listing.startswith("llama-list-"), cluster.names("persistentvolumeclaims")) == (True, [])
    await perform(runtime, EnsureJob(model=model, kind=LIST, size=4_900_000_000))
    claim = cluster.objects["persistentvolumeclaims", "llama-cache"]
    assert claim["spec"]["resources"]["requests"] == {"storage": "6Gi"}
    assert [name.rpartition("-")[0] for name in cluster.names("jobs")] == ["llama-list", "llama-fetch"]
    await perform(runtime, EnsureJob(model=model, kind=LIST))
    assert len(cluster.names("jobs")) == 2


async def test_a_deleted_cache_is_listed_again_and_said() -> None:
    """The Model was cached: the message says why its files are asked for."""
    model = a_download(conditions=("Accepted", "Placed", "Cached"))
    cluster = DictCluster(model)
    await perform(a_runtime("prefetcher", cluster=cluster), EnsureJob(model=model, kind=LIST))
    cached = cluster.model().condition("Cached")
    assert cached is not None
    assert cached.message.endswith("; PVC llama-cache was deleted and is created again")
