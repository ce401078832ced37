"""Creation, scheduling gates, binding and graceful deletion of Pods."""

import pytest

from localkube.apiserver.errors import ApiError
from localkube.apiserver.pod_strategy import qos_class
from localkube.apiserver.resources import Object
from tests.unit.localkube.apiserver.stage import Stage, a_pod

GATES = [{"name": "a.b/turn-1"}, {"name": "a.b/turn-2"}]


@pytest.fixture
def stage() -> Stage:
    """Return a store."""
    return Stage()


def binding(node: str, **meta: str) -> Object:
    """Return a binding of the Pod `p`."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p", **meta},
        "target": {"kind": "Node", "name": node},
    }


def test_a_new_pod_is_pending(stage: Stage) -> None:
    """It gets a phase and a QoS class, whatever status was sent."""
    pod = stage.create("pods", a_pod() | {"status": {"phase": "Running"}})
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_a_gated_pod_has_a_condition(stage: Stage) -> None:
    """PodScheduled is False with reason SchedulingGated from the start."""
    (condition,) = stage.create("pods", a_pod(schedulingGates=GATES))["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "PodScheduled",
        "False",
        "SchedulingGated",
    )


def test_gates_can_only_be_removed(stage: Stage) -> None:
    """And the nodeSelector of a gated Pod can be extended."""
    stage.create("pods", a_pod(schedulingGates=GATES[:1], nodeSelector={"a": "b"}))
    with pytest.raises(
        ApiError, match=r"only deletion is allowed, but found new scheduling gate 'a\.b/turn-2'"
    ):
        stage.merge("pods", "p", {"spec": {"schedulingGates": GATES}})
    narrowed = stage.merge("pods", "p", {"spec": {"nodeSelector": {"a": "b", "c": "d"}}})
    ungated = stage.merge("pods", "p", {"spec": {"schedulingGates": None}})
    assert (narrowed["spec"]["nodeSelector"], "schedulingGates" in ungated["spec"]) == (
        {"a": "b", "c": "d"},
        False,
    )


def test_a_pod_is_bound_once(stage: Stage) -> None:
    """Binding sets node and condition; a second one is a conflict."""
    stage.create("pods", a_pod())
    bound = stage.put("pods", binding("n1"), "binding")
    with pytest.raises(ApiError) as error:
        stage.put("pods", binding("n2"), "binding")
    assert (bound["spec"]["nodeName"], bound["status"]["conditions"][0]["status"]) == ("n1", "True")
    assert (error.value.code, error.value.message) == (
        409,
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"',
    )


@pytest.mark.parametrize(
    ("pod", "sent", "words"),
    [
        pytest.param(
            a_pod(schedulingGates=GATES), binding("n"), "has non-empty .spec.schedulingGates", id="gated"
        ),
        pytest.param(a_pod(), binding("n", uid="other"), "Precondition failed: UID", id="another Pod"),
        pytest.param(a_pod(), binding("n", resourceVersion="1"), "the object has been modified", id="stale"),
    ],
)
def test_a_binding_is_refused(stage: Stage, pod: Object, sent: Object, words: str) -> None:
    """When the Pod is gated, or the uid or resourceVersion of the binding does not match."""
    stage.create("pods", pod)
    with pytest.raises(ApiError) as error:
        stage.put("pods", sent, "binding")
    assert (error.value.code, words in error.value.message) == (409, True)


def test_an_unscheduled_pod_is_deleted_at_once(stage: Stage) -> None:
    """There is no kubelet that has to stop it."""
    stage.create("pods", a_pod())
    stage.delete("pods", "p")
    assert stage.names("pods") == []


def test_a_bound_pod_is_deleted_gracefully(stage: Stage) -> None:
    """It gets a deadline that can only be shortened, and is removed when it is deleted with grace period 0."""
    stage.create("pods", a_pod(terminationGracePeriodSeconds=20))
    stage.put("pods", binding("n1"), "binding")
    marked = stage.delete("pods", "p")
    again = stage.delete("pods", "p")
    sooner = stage.delete("pods", "p", grace_seconds=5)
    later = stage.delete("pods", "p", grace_seconds=60)
    assert [
        (obj["metadata"]["deletionTimestamp"][-4:-1], obj["metadata"]["deletionGracePeriodSeconds"])
        for obj in (marked, again, sooner, later)
    ] == [(":20", 20), (":20", 20), (":05", 5), (":05", 5)]
    assert (marked["metadata"]["generation"], again) == (2, marked)
    stage.delete("pods", "p", grace_seconds=0)
    assert stage.names("pods") == []


def test_does_not_wait_for_a_node_when_it_is_over_or_forced(stage: Stage) -> None:
    """A finished Pod, and one that is deleted by force, go at once."""
    for name in ("over", "forced"):
        stage.create("pods", a_pod(name, nodeName="n1"))
    stage.merge("pods", "over", {"status": {"phase": "Succeeded"}}, "status")
    stage.delete("pods", "over")
    stage.delete("pods", "forced", grace_seconds=0)
    assert stage.names("pods") == []


def test_keeps_a_stopped_pod_with_a_finalizer(stage: Stage) -> None:
    """Grace 0 and finalizers: it goes with the last of them."""
    pod = a_pod(nodeName="n1")
    pod["metadata"]["finalizers"] = ["a/b"]
    stage.create("pods", pod)
    stage.delete("pods", "p")
    stage.delete("pods", "p", grace_seconds=0)
    assert stage.get("pods", "p")["metadata"]["deletionGracePeriodSeconds"] == 0
    stage.merge("pods", "p", {"metadata": {"finalizers": None}})
    assert stage.names("pods") == []


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"requests": {"nvidia.com/gpu": "1"}}], "BestEffort"),
    ],
)
def test_knows_the_quality_of_service(resources: list[Object], expected: str) -> None:
    """By cpu and memory alone, as Kubernetes does."""
    assert qos_class({"containers": [{"resources": each} for each in resources]}) == expected
