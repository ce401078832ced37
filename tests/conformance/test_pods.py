"""Pods: born gated, opened by a patch that tests what it opens, bound once, and kept as they were asked for."""

import pytest

from tests.apiserver import JSON_PATCH, MERGE, STRATEGIC, ApiServer, Object
from tests.conformance.objects import FAR, GATE, PODS, a_pod, path
from tests.instance import until


@pytest.fixture
def pod(server: ApiServer, space: str) -> Object:
    """Return a Pod behind its gate."""
    made: Object = server.create(path(PODS, space), a_pod())
    return made


def opening(pod: Object, gate: str = GATE, uid: str = "") -> list[Object]:
    """Return the patch that opens a gate: of this Pod, and of no other."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid or pod["metadata"]["uid"]},
        {"op": "test", "path": "/spec/schedulingGates/0/name", "value": gate},
        {"op": "remove", "path": "/spec/schedulingGates/0"},
    ]


def scheduled(pod: Object) -> tuple[str, str]:
    """Return status and reason of the condition that says whether a Pod has a node."""
    told = pod["status"].get("conditions", ())
    (found,) = [one for one in told if one["type"] == "PodScheduled"]
    return found["status"], found.get("reason", "")


def test_a_gated_pod_waits(server: ApiServer, pod: Object, space: str) -> None:
    """Pending, and it says why."""
    assert (pod["status"]["phase"], scheduled(pod)) == ("Pending", ("False", "SchedulingGated"))


def test_the_defaults_of_a_pod(pod: Object) -> None:
    """Those of its containers, and what admission adds."""
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


def test_a_container_asks_for_what_it_is_limited_to(server: ApiServer, space: str) -> None:
    """Unless it says what it asks for; the whole is Guaranteed then."""
    container = {
        "name": "engine",
        "image": "example.com/engine",
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    made = server.create(path(PODS, space), a_pod("asks", containers=[container]))
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert (made["spec"]["containers"][0]["imagePullPolicy"], made["status"]["qosClass"]) == (
        "Always",
        "Guaranteed",
    )


def test_nobody_owns_what_admission_adds(server: ApiServer, pod: Object) -> None:
    """The creator owns his fields and their defaults."""
    (owned,) = [
        one["fieldsV1"]["f:spec"] for one in pod["metadata"]["managedFields"] if one["manager"] == "tests"
    ]
    assert ("f:restartPolicy" in owned, "f:tolerations" in owned, "f:priority" in owned) == (
        True,
        False,
        False,
    )


def test_the_gate_opens_by_a_patch_that_tests_uid_and_gate(
    server: ApiServer, pod: Object, space: str
) -> None:
    """Once: the second finds nothing to open."""
    one = path(PODS, space, "waits")
    first, second = (server.patch(one, opening(pod), JSON_PATCH) for _ in "12")
    assert (first.code, first.json["spec"].get("schedulingGates"), second.code) == (200, None, 422)


@pytest.mark.parametrize(
    "wrong", [{"uid": "another"}, {"gate": "ai.flexinfer/turn-2"}], ids=["another Pod", "another turn"]
)
def test_a_stale_opening_is_refused(
    server: ApiServer, pod: Object, space: str, wrong: dict[str, str]
) -> None:
    """422, and the gate stays."""
    one = path(PODS, space, "waits")
    assert server.patch(one, opening(pod, **wrong), JSON_PATCH).code == 422
    assert server.get(one)["spec"]["schedulingGates"] == [{"name": GATE}]


def test_gates_only_go(server: ApiServer, pod: Object, space: str) -> None:
    """No Pod can be held again."""
    one = path(PODS, space, "waits")
    reply = server.patch(one, {"spec": {"schedulingGates": [{"name": GATE}, {"name": "a/b"}]}}, MERGE)
    assert (reply.code, "only deletion is allowed" in reply.message) == (422, True)


def binding(node: str = FAR, **meta: str) -> Object:
    """Return a binding to a node."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "waits"} | meta, "target": target}


def test_a_gated_pod_cannot_be_bound(server: ApiServer, pod: Object, space: str) -> None:
    """Whoever tries is told so."""
    reply = server.ask("POST", path(PODS, space, "waits", "binding"), binding())
    assert (reply.code, reply.message) == (
        409,
        'Operation cannot be fulfilled on pods/binding "waits": pod waits has non-empty .spec.schedulingGates',
    )


def test_an_open_pod_is_bound_once(server: ApiServer, space: str) -> None:
    """By whoever is its scheduler."""
    server.create(path(PODS, space), a_pod(schedulingGates=[], schedulerName="by-hand"))
    where = path(PODS, space, "waits", "binding")
    first, second = (server.ask("POST", where, binding()) for _ in "12")
    found = server.get(path(PODS, space, "waits"))
    assert (first.code, found["spec"]["nodeName"], scheduled(found)[0]) == (201, FAR, "True")
    assert (second.code, "already assigned to node" in second.message) == (409, True)


def test_an_opened_pod_that_fits_nowhere_says_why(server: ApiServer, pod: Object, space: str) -> None:
    """By the scheduler's condition."""
    one = path(PODS, space, "waits")
    narrow = {"spec": {"nodeSelector": {"none": "such"}}}
    assert server.patch(one, narrow, MERGE).code == 200
    server.patch(one, opening(pod), JSON_PATCH)
    until(lambda: scheduled(server.get(one)) == ("False", "Unschedulable"), 15, "the scheduler has said so")


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
def test_a_pod_stays_what_it_was_asked_to_be(
    server: ApiServer, pod: Object, space: str, spec: Object, code: int
) -> None:
    """But for its image and a few more."""
    reply = server.patch(path(PODS, space, "waits"), {"spec": spec}, STRATEGIC)
    assert reply.code == code, reply.message


def test_a_bound_pod_gets_its_time_to_end(server: ApiServer, space: str) -> None:
    """An unbound one goes at once; a bound one when its node says so, or when nobody waits for that."""
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


def test_the_status_of_a_pod_is_its_nodes(server: ApiServer, pod: Object, space: str) -> None:
    """Written by its own path; the list of conditions merges by type."""
    one = path(PODS, space, "waits", "status")
    body = {"status": {"conditions": [{"type": "Ready", "status": "False"}], "podIP": "127.0.0.9"}}
    found = server.patch(one, body, STRATEGIC).json["status"]
    assert sorted(each["type"] for each in found["conditions"]) == ["PodScheduled", "Ready"]
    assert found["podIP"] == "127.0.0.9"
