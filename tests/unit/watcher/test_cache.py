"""The cache: what a change affects, and how objects are condensed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import kube
from flexinfer.api.labels import MODEL_UID_LABEL, TEMPLATE_ANNOTATION, TURN_LABEL
from flexinfer.api.metadata import Metadata, OwnerReference
from flexinfer.api.model import Gpu, Model
from flexinfer.events import codec, events, workload
from flexinfer.events.codec import StreamEntry
from flexinfer.runtime.kubernetes.api import CLAIMS, GPU_LEASES, JOBS, MODELS, NODES, PODS, SHARED_GROUPS
from flexinfer.watcher.cache import KINDS, ClusterCache, SubjectKey
from flexinfer.watcher.diff import ahead, differing, key_of, pending_event, subject_of
from flexinfer.watcher.facts import requests_of
from tests.builders import a_group, a_lease, a_model

MODEL, WORKLOAD = SubjectKey("model", "default", "llama"), SubjectKey("workload", "default", "llama")
NODE = SubjectKey("node", "", "a")


def a_cache(*models: Model, runtime_classes: Mapping[str, str] = MappingProxyType({})) -> ClusterCache:
    """Return a synced cache with some Models."""
    cache = ClusterCache(runtime_classes)
    for kind in KINDS:
        cache.replace_all(kind, models if kind is MODELS else (), "1")
    return cache


def meta(name: str, **changes: Any) -> Metadata:
    """Return the metadata of an object of the Model llama."""
    return Metadata(**({"name": name, "namespace": "default", "uid": f"uid-{name}"} | changes))


def a_pod(name: str = "llama-0", **changes: Any) -> kube.Pod:
    """Return a Pod of the Model llama on node a."""
    needs = kube.ResourceNeeds(requests={"cpu": "500m"}, limits={"cpu": 1, "nvidia.com/gpu": "1"})
    labels = {MODEL_UID_LABEL: "uid-llama"} | changes.pop("labels", {})
    owners = changes.pop("owners", ())
    return kube.Pod(
        metadata=meta(name, labels=labels, owner_references=owners),
        spec=kube.PodSpec(node_name="a", containers=(kube.Container(resources=needs),)),
        status=kube.PodStatus(phase=changes.pop("phase", "Running")),
    )


def a_node(name: str = "a") -> kube.Node:
    """Return a ready Node."""
    ready = kube.PodCondition(type="Ready", status="True")
    status = kube.NodeStatus(allocatable={"cpu": "8", "memory": "16Gi", "odd": "x"}, conditions=(ready,))
    return kube.Node(metadata=Metadata(name=name, uid=f"uid-{name}", resource_version="5"), status=status)


def workload_of(cache: ClusterCache) -> events.WorkloadObserved:
    """Return the workload of the Model llama."""
    event = cache.event(WORKLOAD)
    assert isinstance(event, events.WorkloadObserved)
    return event


def test_a_pod_affects_its_models_workload_and_its_node() -> None:
    """The node's sum of requests changes with it."""
    cache = a_cache(a_model())
    assert cache.upsert(PODS, a_pod()) == {WORKLOAD, NODE}
    assert cache.remove(PODS, a_pod()) == {WORKLOAD, NODE}


def test_a_pod_found_by_its_owner_counts_too() -> None:
    """A label can be lost; the controller owner cannot."""
    cache = a_cache(a_model())
    owner = OwnerReference(kind="Model", name="llama", uid="uid-llama", controller=True)
    cache.upsert(PODS, a_pod(labels={MODEL_UID_LABEL: ""}, owners=(owner,)))
    assert [pod.name for pod in workload_of(cache).pods] == ["llama-0"]


def test_the_pods_of_a_job_are_no_engine() -> None:
    """Else a download would look like a running Model."""
    cache = a_cache(a_model())
    cache.upsert(JOBS, kube.Job(metadata=meta("fetch", labels={MODEL_UID_LABEL: "uid-llama"})))
    cache.upsert(PODS, a_pod("fetch-x", owners=(OwnerReference(kind="Job", name="fetch", uid="uid-fetch"),)))
    assert workload_of(cache).pods == ()
    assert [job.name for job in workload_of(cache).jobs] == ["fetch"]


def test_a_pod_of_a_deleted_namesake_is_not_the_models() -> None:
    """By uid, not by name."""
    cache = a_cache(a_model())
    assert cache.upsert(PODS, a_pod(labels={MODEL_UID_LABEL: "uid-deleted"})) == {NODE}
    assert cache.event(WORKLOAD) is None


@pytest.mark.parametrize("claim", ["models", "llama-cache"])
def test_a_pvc_affects_every_model_that_names_it(claim: str) -> None:
    """The one of its source, and the one that would be created for it."""
    cache = a_cache(a_model(), a_model("other", source="file:///x.gguf"))
    assert cache.upsert(CLAIMS, kube.Claim(metadata=meta(claim))) == {WORKLOAD}
    assert [c.name for c in workload_of(cache).claims] == [claim]


def test_a_lease_is_a_subject_of_its_own() -> None:
    """Of its name, whatever group it names."""
    cache, key = a_cache(), SubjectKey("lease", "default", "game")
    assert cache.upsert(GPU_LEASES, a_lease()) == {key}
    assert cache.event(key) == events.LeaseObserved(lease=a_lease())
    assert key in set(cache.subjects())
    assert cache.remove(GPU_LEASES, a_lease()) == {key}
    assert cache.event(key) is None


def test_a_shared_group_is_a_subject_of_its_own() -> None:
    """Named after the object; once it is gone there is no fact about it."""
    cache, key = a_cache(a_model(gpu=Gpu(shared="card"))), SubjectKey("group", "default", "card")
    assert cache.upsert(SHARED_GROUPS, a_group()) == {key}
    assert cache.event(key) == events.GroupObserved(group=a_group())
    assert key in set(cache.subjects())
    assert cache.remove(SHARED_GROUPS, a_group()) == {key}
    assert cache.event(key) is None


def test_labels_that_cannot_be_read_break_nothing() -> None:
    """Any user that may create Pods may write labels: the turn is that of no group, and the Pod is seen."""
    cache = a_cache(a_model())
    cache.upsert(PODS, a_pod(labels={TURN_LABEL: "many"}))
    assert [pod.turn for pod in workload_of(cache).pods] == [workload.NO_TURN]


def test_a_pod_of_another_namespace_is_not_the_models() -> None:
    """A user who may create Pods elsewhere may copy a uid into a label."""
    cache = a_cache(a_model())
    pod = a_pod()
    elsewhere = msgspec.structs.replace(pod.metadata, namespace="other")
    cache.upsert(PODS, msgspec.structs.replace(pod, metadata=elsewhere))
    assert cache.event(WORKLOAD) is None


def test_a_request_beyond_all_numbers_leaves_the_node_readable() -> None:
    """A Pod may name its node and request anything."""
    cache = a_cache()
    cache.upsert(NODES, a_node())
    for name in ("one", "two"):
        pod = a_pod(name)
        needs = kube.ResourceNeeds(requests={"example.com/x": "9E", "example.com/y": "1e400"})
        spec = msgspec.structs.replace(pod.spec, containers=(kube.Container(resources=needs),))
        cache.upsert(PODS, msgspec.structs.replace(pod, spec=spec))
    event = cache.event(NODE)
    assert isinstance(event, events.NodeObserved)
    assert event.node.requested == {"example.com/x": 2**63 - 1, "pods": 2000}


def test_what_others_write_on_pods_fits_into_a_message() -> None:
    """One annotation may have 256 KiB, and a user may label hundreds of Pods."""
    cache = a_cache(a_model())
    for index in range(300):
        pod = a_pod(f"p{index}")
        metadata = msgspec.structs.replace(pod.metadata, annotations={TEMPLATE_ANNOTATION: "x" * 2**18})
        status = msgspec.structs.replace(pod.status, message="y" * 2**18)
        cache.upsert(PODS, msgspec.structs.replace(pod, metadata=metadata, status=status))
    assert len(codec.encode(workload_of(cache))) < 2**20


def test_all_that_others_write_on_pods_and_jobs_fits_into_a_message() -> None:
    """At worst each character takes six bytes of JSON. A message that does not fit would be compared with the stream again and again."""
    cache, long = a_cache(a_model()), "\x01" * 2**18
    ended = kube.ContainerState(
        terminated=kube.ContainerState.Terminated(exit_code=1, reason=long, message=long)
    )
    devices = kube.ResourceAllocation(
        name="nvidia.com/gpu",
        resources=tuple(kube.AllocatedResource(resource_id=f"{n}{long}") for n in range(99)),
    )
    container = kube.ContainerStatus(state=ended, last_state=ended, allocated_resources_status=(devices,))
    gates = tuple(kube.SchedulingGate(name=f"example.com/{n}") for n in range(9_999))
    for number in range(200):
        pod = a_pod(f"p{number}", labels={TEMPLATE_ANNOTATION: long}, phase=long)
        status = msgspec.structs.replace(
            pod.status, reason=long, message=long, container_statuses=(container,)
        )
        spec = msgspec.structs.replace(pod.spec, scheduling_gates=gates)
        cache.upsert(PODS, msgspec.structs.replace(pod, status=status, spec=spec))
        failed = kube.PodCondition(type="Failed", status="True", reason=long, message=long)
        job = meta(f"j{number}", labels={MODEL_UID_LABEL: "uid-llama"})
        cache.upsert(JOBS, kube.Job(metadata=job, status=kube.JobStatus(conditions=(failed,))))
        owner = OwnerReference(kind="Job", name=f"j{number}", uid=f"uid-j{number}")
        fetch = a_pod(f"f{number}", owners=(owner,), phase=long)
        cache.upsert(PODS, msgspec.structs.replace(fetch, status=status))
    assert len(codec.encode(workload_of(cache))) < 4 * 10**6


def test_the_engine_is_published_before_what_others_have_labelled_so() -> None:
    """Its Pod was hidden by a hundred whose names come before its own."""
    cache = a_cache(a_model())
    owner = OwnerReference(kind="Model", name="llama", uid="uid-llama", controller=True)
    for number in range(200):
        cache.upsert(PODS, a_pod(f"a{number}"))
        cache.upsert(JOBS, kube.Job(metadata=meta(f"a{number}", labels={MODEL_UID_LABEL: "uid-llama"})))
    cache.upsert(PODS, a_pod(owners=(owner,)))
    cache.upsert(JOBS, kube.Job(metadata=meta("llama-fetch", owner_references=(owner,))))
    event = workload_of(cache)
    assert "llama-0" in {pod.name for pod in event.pods}
    assert "llama-fetch" in {job.name for job in event.jobs}


def test_a_node_is_condensed_with_the_requests_of_all_its_pods() -> None:
    """Limits count where there is no request; what has ended takes nothing.

    What is not a quantity does not count.
    """
    cache = a_cache()
    cache.upsert(NODES, a_node())
    for name, phase in (("one", "Running"), ("two", "Pending"), ("three", "Succeeded")):
        cache.upsert(PODS, a_pod(name, phase=phase))
    event = cache.event(NODE)
    assert isinstance(event, events.NodeObserved)
    assert event.node.requested == {"cpu": 1000, "nvidia.com/gpu": 2000, "pods": 2000}
    assert event.node.allocatable == {"cpu": 8000, "memory": 16 * 2**30 * 1000}
    assert (event.node.ready, event.node.version) == ("True", 5)


def test_a_pod_that_has_ended_requests_nothing() -> None:
    """Its resources are available."""
    assert requests_of(a_pod(phase="Failed")) == {}


def test_what_a_list_lacks_was_deleted() -> None:
    """No watch event is needed."""
    cache = a_cache(a_model(), a_model("other"))
    assert cache.replace_all(MODELS, [a_model("other")], "9") == {MODEL, WORKLOAD}
    assert cache.event(MODEL) is None


def test_a_list_without_a_change_affects_nothing() -> None:
    """As most of them."""
    cache = a_cache(a_model())
    assert cache.replace_all(MODELS, [a_model()], "9") == set()


def test_what_the_stream_holds_and_the_api_server_does_not_is_published_as_deleted() -> None:
    """With the uid that the stream holds."""
    held = {subject_of(MODEL): StreamEntry(1, codec.encode(events.ModelObserved(model=a_model())))}
    cache = a_cache()
    assert differing(cache, held) == {MODEL}
    assert pending_event(cache, held, MODEL) == events.ModelDeleted(
        namespace="default", name="llama", uid="uid-llama", version=1
    )


def test_what_the_stream_holds_in_a_newer_version_is_not_published_as_deleted() -> None:
    """A watcher that was suspended reads back what its successor published meanwhile."""
    newer = codec.encode(events.ModelObserved(model=a_model(version=7)))
    held = {subject_of(MODEL): StreamEntry(1, newer), subject_of(WORKLOAD): StreamEntry(2, b"{}")}
    behind = a_cache()
    assert differing(behind, held) == set()
    assert pending_event(behind, held, MODEL) is None
    assert differing(a_cache(a_model(version=6)), {subject_of(MODEL): StreamEntry(1, newer)}) == set()
    assert ahead(behind, held) == {"models": 7}
    assert differing(behind, held, {"models": 7}) == set()
    behind.replace_all(MODELS, [], "8")
    assert differing(behind, held) == {MODEL, WORKLOAD}
    assert ahead(behind, held) == {}


def test_what_the_stream_holds_in_a_version_that_the_api_server_has_not_reached_is_void() -> None:
    """The API server was restored from a backup; what it reaches again counts again."""
    newer = codec.encode(events.ModelObserved(model=a_model(version=7)))
    held = {subject_of(MODEL): StreamEntry(1, newer)}
    assert differing(a_cache(), held, {"models": 5}) == {MODEL}
    assert isinstance(pending_event(a_cache(), held, MODEL, {"models": 5}), events.ModelDeleted)
    older = a_cache(a_model(version=3))
    assert differing(older, held, {"models": 5}) == {MODEL}
    assert pending_event(older, held, MODEL) == events.ModelObserved(model=a_model(version=3))


def test_what_the_stream_holds_already_is_not_published() -> None:
    """Nor is the deletion of what was never published."""
    held = {subject_of(MODEL): StreamEntry(1, codec.encode(events.ModelObserved(model=a_model())))}
    assert differing(a_cache(a_model()), held) == set()
    assert pending_event(a_cache(), {}, NODE) is None


def test_a_held_message_that_cannot_be_read_is_replaced() -> None:
    """An older or newer release may have written it."""
    held = {subject_of(MODEL): StreamEntry(1, b"\xff"), subject_of(NODE): StreamEntry(2, b"{}")}
    assert differing(a_cache(a_model()), held) == {MODEL, NODE}
    assert isinstance(pending_event(a_cache(), held, MODEL), events.ModelDeleted)


@given(st.sampled_from(["model", "workload"]), st.text(min_size=1), st.text(min_size=1))
def test_a_subject_is_a_key_and_back(kind: str, namespace: str, name: str) -> None:
    """For any name."""
    key = SubjectKey(kind, namespace, name)
    assert key_of(subject_of(key)) == key


@given(st.permutations([0, 1, 2, 3, 4]), st.lists(st.integers(0, 4), max_size=3))
def test_the_cache_does_not_depend_on_the_order_of_changes(order: list[int], deleted: list[int]) -> None:
    """Pods before their Model, or after it."""
    changes: list[Any] = [
        (MODELS, a_model()),
        (PODS, a_pod()),
        (NODES, a_node()),
        (CLAIMS, kube.Claim(metadata=meta("models"))),
        (PODS, a_pod("other-0", labels={MODEL_UID_LABEL: "uid-other"})),
    ]

    def filled(order: list[int]) -> dict[SubjectKey, Any]:
        cache = a_cache()
        for index in order:
            cache.upsert(*changes[index])
        for index in deleted:
            cache.remove(*changes[index])
        return {key: cache.event(key) for key in cache.subjects()}

    assert filled(order) == filled(sorted(order))
