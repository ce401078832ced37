"""Pods: scheduling gates and their removal by a patch with tests, one binding, and immutable fields."""

import pytest

from tests.apiserver import JSON_PATCH, MERGE, STRATEGIC, ApiServer, Object
from tests.conformance.objects import FAR, GATE, PODS, a_pod, path
from tests.instance import until


@pytest.fixture
def pod(server: ApiServer, space: str) -> Object:
    """Return a Pod with a scheduling gate."""
    created: Object = server.create(path(PODS, space), a_pod())
    return created


def opening(pod: Object, gate: str = GATE, uid: str = "") -> list[Object]:
    """Return the patch that removes the gate of this Pod only."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid or pod["metadata"]["uid"]},
        {"op": "test", "path": "/spec/schedulingGates/0/name", "value": gate},
        {"op": "remove", "path": "/spec/schedulingGates/0"},
    ]


def scheduled(pod: Object) -> tuple[str, str]:
    """Return status and reason of the condition PodScheduled."""
    conditions = pod["status"].get("conditions", ())
    (condition,) = [one for one in conditions if one["type"] == "PodScheduled"]
    return condition["status"], condition.get("reason", "")


def test_a_gated_pod_is_pending(server: ApiServer, pod: Object, space: str) -> None:
    """With the reason SchedulingGated."""
    assert (pod["status"]["phase"], scheduled(pod)) == ("Pending", ("False", "SchedulingGated"))


def test_the_defaults_of_a_pod(pod: Object) -> None:
    """Of its spec and containers, and from admission."""
    spec = pod["spec"]
    assert {
        key: spec[key]
        for key in ("restartPolicy", "dnsPolicy", "schedulerName", "terminationGracePeriodSeconds")
    } == {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
    }
    assert (spec["serviceAccountName"], spec["priority"], spec["enableServiceLinks"]) == ("default", 0, True)
    assert [one["key"] for one in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert (spec["containers"][0]["imagePullPolicy"], pod["status"]["qosClass"]) == (
        "IfNotPresent",
        "BestEffort",
    )


def test_requests_default_to_limits(server: ApiServer, space: str) -> None:
    """The QoS class of the Pod is Guaranteed then."""
    container = {
        "name": "engine",
        "image": "example.com/engine",
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    created = server.create(path(PODS, space), a_pod("asks", containers=[container]))
    assert created["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert (created["spec"]["containers"][0]["imagePullPolicy"], created["status"]["qosClass"]) == (
        "Always",
        "Guaranteed",
    )


def test_fields_that_admission_adds_have_no_owner(server: ApiServer, pod: Object) -> None:
    """The creator owns the fields that it sets and the defaults."""
    (owned,) = [
        one["fieldsV1"]["f:spec"] for one in pod["metadata"]["managedFields"] if one["manager"] == "tests"
    ]
    assert ("f:restartPolicy" in owned, "f:tolerations" in owned, "f:priority" in owned) == (
        True,
        False,
        False,
    )


def test_a_patch_that_tests_uid_and_gate_removes_the_gate(server: ApiServer, pod: Object, space: str) -> None:
    """The second patch fails: there is no gate left."""
    one = path(PODS, space, "waits")
    first, second = (server.patch(one, opening(pod), JSON_PATCH) for _ in "12")
    assert (first.code, first.json["spec"].get("schedulingGates"), second.code) == (200, None, 422)


@pytest.mark.parametrize(
    "wrong", [{"uid": "another"}, {"gate": "ai.flexinfer/turn-2"}], ids=["another Pod", "another turn"]
)
def test_a_stale_removal_of_a_gate_is_refused(
    server: ApiServer, pod: Object, space: str, wrong: dict[str, str]
) -> None:
    """422, and the gate stays."""
    one = path(PODS, space, "waits")
    assert server.patch(one, opening(pod, **wrong), JSON_PATCH).code == 422
    assert server.get(one)["spec"]["schedulingGates"] == [{"name": GATE}]


def test_gates_can_only_be_removed(server: ApiServer, pod: Object, space: str) -> None:
    """A Pod cannot be gated again."""
    one = path(PODS, space, "waits")
    reply = server.patch(one, {"spec": {"schedulingGates": [{"name": GATE}, {"name": "a/b"}]}}, MERGE)
    assert (reply.code, "only deletion is allowed" in reply.message) == (422, True)


def binding(node: str = FAR, **meta: str) -> Object:
    """Return a binding to a node."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "waits"} | meta, "target": target}


def test_a_gated_pod_cannot_be_bound(server: ApiServer, pod: Object, space: str) -> None:
    """409, with the reason."""
    reply = server.ask("POST", path(PODS, space, "waits", "binding"), binding())
    assert (reply.code, reply.message) == (
        409,
        'Operation cannot be fulfilled on pods/binding "waits": pod waits has non-empty .spec.schedulingGates',
    )


def test_an_ungated_pod_is_bound_once(server: ApiServer, space: str) -> None:
    """By its scheduler."""
    server.create(path(PODS, space), a_pod(schedulingGates=[], schedulerName="by-hand"))
    where = path(PODS, space, "waits", "binding")
    first, second = (server.ask("POST", where, binding()) for _ in "12")
    obj = server.get(path(PODS, space, "waits"))
    assert (first.code, obj["spec"]["nodeName"], scheduled(obj)[0]) == (201, FAR, "True")
    assert (second.code, "already assigned to node" in second.message) == (409, True)


def test_an_ungated_pod_that_fits_no_node_is_unschedulable(
    server: ApiServer, pod: Object, space: str
) -> None:
    """In the condition that the scheduler writes."""
    one = path(PODS, space, "waits")
    narrow = {"spec": {"nodeSelector": {"none": "such"}}}
    assert server.patch(one, narrow, MERGE).code == 200
    server.patch(one, opening(pod), JSON_PATCH)
    until(lambda: scheduled(server.get(one)) == ("False", "Unschedulable"), 15, "the Pod is unschedulable")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"containers": [{"name": "engine", "image": "example.com/engine:2"}]}, 200),
        ({"activeDeadlineSeconds": 60}, 200),
        ({"terminationGracePeriodSeconds": 7}, 422),
        ({"restartPolicy": "Never"}, 422),
        ({"containers": [{"name": "engine", "command": ["other"]}]}, 422),
        ({"containers": [{"name": "second", "image": "example.com/engine:1"}]}, 422),
        ({"schedulerName": "other"}, 422),
    ],
    ids=["image", "deadline", "grace", "restarts", "command", "another container", "scheduler"],
)
def test_most_fields_of_a_pod_are_immutable(
    server: ApiServer, pod: Object, space: str, spec: Object, code: int
) -> None:
    """Except the image and a few more."""
    reply = server.patch(path(PODS, space, "waits"), {"spec": spec}, STRATEGIC)
    assert reply.code == code, reply.message


def test_a_bound_pod_gets_its_grace_period(server: ApiServer, space: str) -> None:
    """An unbound Pod is deleted at once, a bound one by its kubelet, or at once with a grace period of 0."""
    server.create(path(PODS, space), a_pod())
    server.create(path(PODS, space), a_pod("sits", schedulingGates=[], nodeName=FAR))
    for name in ("waits", "sits"):
        assert server.ask("DELETE", path(PODS, space, name)).code == 200
    assert server.ask("GET", path(PODS, space, "waits")).code == 404
    meta = server.get(path(PODS, space, "sits"))["metadata"]
    assert meta["deletionGracePeriodSeconds"] == 30
    forced = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
    assert server.ask("DELETE", path(PODS, space, "sits"), forced).code == 200
    assert server.ask("GET", path(PODS, space, "sits")).code == 404


def test_the_status_of_a_pod_is_written_by_its_subresource(
    server: ApiServer, pod: Object, space: str
) -> None:
    """The list of conditions is merged by type."""
    one = path(PODS, space, "waits", "status")
    body = {"status": {"conditions": [{"type": "Ready", "status": "False"}], "podIP": "127.0.0.9"}}
    obj = server.patch(one, body, STRATEGIC).json["status"]
    assert sorted(each["type"] for each in obj["conditions"]) == ["PodScheduled", "Ready"]
    assert obj["podIP"] == "127.0.0.9"
