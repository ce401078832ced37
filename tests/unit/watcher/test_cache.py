"""The picture: what a change touches, and how things are condensed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import kube
from flexinfer.api.labels import MODEL_UID_LABEL, TURN_LABEL
from flexinfer.api.model import Gpu, Metadata, Model, OwnerReference, SharedGroup
from flexinfer.events import events, workload
from flexinfer.runtime.kubernetes.api import CLAIMS, JOBS, LEASES, MODELS, NODES, PODS
from flexinfer.runtime.nats import codec
from flexinfer.runtime.nats.state_writer import StreamEntry
from flexinfer.watcher.cache import KINDS, ClusterCache, SubjectKey, requests_of
from flexinfer.watcher.diff import differing, key_of, pending_event, subject_of
from tests.builders import a_model

MODEL, WORKLOAD = SubjectKey("model", "default", "llama"), SubjectKey("workload", "default", "llama")
NODE = SubjectKey("node", "", "a")


def a_picture(*models: Model) -> ClusterCache:
    """Return a whole picture with some Models."""
    picture = ClusterCache()
    for kind in KINDS:
        picture.listed(kind, models if kind is MODELS else (), "1")
    return picture


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


def workload_of(picture: ClusterCache) -> events.WorkloadObserved:
    """Return the workload of the Model llama."""
    event = picture.event(WORKLOAD)
    assert isinstance(event, events.WorkloadObserved)
    return event


def test_a_pod_touches_its_models_workload_and_its_node() -> None:
    """The node's sum of requests changes with it."""
    picture = a_picture(a_model())
    assert picture.seen(PODS, a_pod()) == {WORKLOAD, NODE}
    assert picture.gone(PODS, a_pod()) == {WORKLOAD, NODE}


def test_a_pod_found_by_its_owner_counts_too() -> None:
    """A label can be lost; the controller owner cannot."""
    picture = a_picture(a_model())
    owner = OwnerReference(kind="Model", name="llama", uid="uid-llama", controller=True)
    picture.seen(PODS, a_pod(labels={MODEL_UID_LABEL: ""}, owners=(owner,)))
    assert [pod.name for pod in workload_of(picture).pods] == ["llama-0"]


def test_the_pods_of_a_job_are_the_jobs_and_no_engine() -> None:
    """Else a download would look like a running model."""
    picture = a_picture(a_model())
    picture.seen(JOBS, kube.Job(metadata=meta("fetch", labels={MODEL_UID_LABEL: "uid-llama"})))
    picture.seen(PODS, a_pod("fetch-x", owners=(OwnerReference(kind="Job", name="fetch", uid="uid-fetch"),)))
    assert workload_of(picture).pods == ()
    assert [job.name for job in workload_of(picture).jobs] == ["fetch"]


def test_a_pod_of_a_former_namesake_is_not_the_models() -> None:
    """By uid, not by name."""
    picture = a_picture(a_model())
    assert picture.seen(PODS, a_pod(labels={MODEL_UID_LABEL: "uid-former"})) == {NODE}
    assert picture.event(WORKLOAD) is None


@pytest.mark.parametrize("claim", ["models", "llama-cache"])
def test_a_claim_touches_every_model_that_names_it(claim: str) -> None:
    """The one of its source, and the one that it would be given."""
    picture = a_picture(a_model(), a_model("other", source="file:///x.gguf"))
    assert picture.seen(CLAIMS, kube.Claim(metadata=meta(claim))) == {WORKLOAD}
    assert [c.name for c in workload_of(picture).claims] == [claim]


def test_a_groups_lease_belongs_to_all_members_and_to_who_left() -> None:
    """It outlives the field that named it."""
    stays = a_model(gpu=Gpu(shared="card"))
    left = a_model("left", shared_group=SharedGroup(group="card"))
    picture = a_picture(stays, left)
    turn = workload.GroupLease(namespace="default", group="card", turn=3, step=workload.GRANTED)
    touched = picture.seen(LEASES, workload.lease_of(turn))
    assert touched == {WORKLOAD, SubjectKey("workload", "default", "left")}
    assert workload_of(picture).lease is not None


def test_labels_that_were_tampered_with_break_nothing() -> None:
    """Anybody who may make Pods may write labels."""
    picture = a_picture(a_model())
    picture.seen(PODS, a_pod(labels={TURN_LABEL: "many"}))
    assert picture.event(WORKLOAD) is None


def test_a_node_is_condensed_with_the_requests_of_all_its_pods() -> None:
    """Limits count where there is no request; what has ended takes nothing; what is no quantity does not count."""
    picture = a_picture()
    picture.seen(NODES, a_node())
    for name, phase in (("one", "Running"), ("two", "Pending"), ("three", "Succeeded")):
        picture.seen(PODS, a_pod(name, phase=phase))
    event = picture.event(NODE)
    assert isinstance(event, events.NodeObserved)
    assert event.node.requested == {"cpu": 1000, "nvidia.com/gpu": 2000, "pods": 2000}
    assert event.node.allocatable == {"cpu": 8000, "memory": 16 * 2**30 * 1000}
    assert (event.node.ready, event.node.version) == ("True", 5)


def test_a_pod_that_has_ended_requests_nothing() -> None:
    """Its place is free."""
    assert requests_of(a_pod(phase="Failed")) == {}


def test_a_list_infers_what_is_gone() -> None:
    """Nobody has to send a deletion."""
    picture = a_picture(a_model(), a_model("other"))
    assert picture.listed(MODELS, [a_model("other")], "9") == {MODEL, WORKLOAD}
    assert picture.event(MODEL) is None


def test_a_list_that_says_nothing_new_touches_nothing() -> None:
    """Most of them."""
    picture = a_picture(a_model())
    assert picture.listed(MODELS, [a_model()], "9") == set()


def test_what_the_stream_holds_and_the_api_does_not_is_deleted() -> None:
    """With the uid that the stream last told."""
    held = {subject_of(MODEL): StreamEntry(1, codec.encode(events.ModelObserved(model=a_model())))}
    picture = a_picture()
    assert differing(picture, held) == {MODEL}
    assert pending_event(picture, held, MODEL) == events.ModelDeleted(
        namespace="default", name="llama", uid="uid-llama", version=1
    )


def test_what_the_stream_knows_better_is_late_and_not_gone() -> None:
    """A watcher that was paused reads back what its successor published of a Model that it has not come to see."""
    newer = codec.encode(events.ModelObserved(model=a_model(version=7)))
    held = {subject_of(MODEL): StreamEntry(1, newer), subject_of(WORKLOAD): StreamEntry(2, b"{}")}
    behind = a_picture()
    assert differing(behind, held) == set()
    assert pending_event(behind, held, MODEL) is None
    assert differing(a_picture(a_model(version=6)), {subject_of(MODEL): StreamEntry(1, newer)}) == set()
    behind.listed(MODELS, [], "8")
    assert differing(behind, held) == {MODEL, WORKLOAD}


def test_what_the_stream_holds_already_is_no_news() -> None:
    """Nor is a deletion of what was never told."""
    held = {subject_of(MODEL): StreamEntry(1, codec.encode(events.ModelObserved(model=a_model())))}
    assert differing(a_picture(a_model()), held) == set()
    assert pending_event(a_picture(), {}, NODE) is None


def test_a_held_message_that_cannot_be_read_is_replaced() -> None:
    """An older or newer release may have written it."""
    held = {subject_of(MODEL): StreamEntry(1, b"\xff"), subject_of(NODE): StreamEntry(2, b"{}")}
    assert differing(a_picture(a_model()), held) == {MODEL, NODE}
    assert isinstance(pending_event(a_picture(), held, MODEL), events.ModelDeleted)


@given(st.sampled_from(["model", "workload"]), st.text(min_size=1), st.text(min_size=1))
def test_a_subject_says_what_it_is_about(kind: str, namespace: str, name: str) -> None:
    """Both ways, for any name."""
    about = SubjectKey(kind, namespace, name)
    assert key_of(subject_of(about)) == about


@given(st.permutations([0, 1, 2, 3, 4]), st.lists(st.integers(0, 4), max_size=3))
def test_the_picture_does_not_depend_on_the_order_of_arrival(order: list[int], gone: list[int]) -> None:
    """Pods before their Model, or after it."""
    things: list[Any] = [
        (MODELS, a_model()),
        (PODS, a_pod()),
        (NODES, a_node()),
        (CLAIMS, kube.Claim(metadata=meta("models"))),
        (PODS, a_pod("other-0", labels={MODEL_UID_LABEL: "uid-other"})),
    ]

    def drawn(order: list[int]) -> dict[SubjectKey, Any]:
        picture = a_picture()
        for index in order:
            picture.seen(*things[index])
        for index in gone:
            picture.gone(*things[index])
        return {about: picture.event(about) for about in picture.abouts()}

    assert drawn(order) == drawn(sorted(order))
