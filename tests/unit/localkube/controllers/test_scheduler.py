"""Binding: Pods come to nodes, or say why not."""

from typing import Any

from localkube.apiserver.requests import Patch
from localkube.apiserver.resources import Object
from localkube.controllers.scheduler import SELECTED_NODE, Scheduler
from tests.unit.localkube.controllers.ground import NAMESPACE, Ground


def a_ground() -> Ground:
    """Return a ground with a ready node."""
    ground = Ground(Scheduler)
    add_node(ground, "local")
    return ground


def add_node(ground: Ground, name: str, cpu: str = "2") -> None:
    """Add a ready node."""
    status = {"allocatable": {"cpu": cpu, "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}
    ground.make("nodes", {"metadata": {"name": name}, "status": status})


def add_pod(ground: Ground, name: str, cpu: str = "1", **spec: Any) -> None:
    """Add a Pod that asks for this much."""
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    ground.make("pods", {"metadata": {"name": name}, "spec": {"containers": [container], **spec}})


def scheduled(pod: Object) -> Object:
    """Return the condition PodScheduled."""
    return next((c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled"), {})


def test_a_pod_is_bound_and_says_so() -> None:
    """Node, condition, Event."""
    ground = a_ground()
    add_pod(ground, "p")
    ground.settle()
    pod = ground.get("pods", "p")
    assert (pod["spec"]["nodeName"], scheduled(pod)["status"]) == ("local", "True")
    assert ground.events() == [("Scheduled", f"Successfully assigned {NAMESPACE}/p to local")]


def test_a_gated_pod_waits_until_its_gate_goes() -> None:
    """The launcher's turn."""
    ground = a_ground()
    add_pod(ground, "p", schedulingGates=[{"name": "flexinfer.ai/turn-1"}])
    ground.settle()
    assert "nodeName" not in ground.get("pods", "p")["spec"]
    opened = Patch("merge", {"spec": {"schedulingGates": None}})
    ground.store.patch(ground.resource("pods"), NAMESPACE, "p", opened)
    ground.settle()
    assert ground.get("pods", "p")["spec"]["nodeName"] == "local"


def test_a_pod_that_fits_nowhere_is_unschedulable_until_there_is_room() -> None:
    """And said once, not at every look."""
    ground = a_ground()
    add_pod(ground, "first", cpu="2")
    ground.settle()
    add_pod(ground, "second", cpu="1")
    ground.settle()
    told = scheduled(ground.get("pods", "second"))
    assert (told["reason"], told["message"].partition(".")[0]) == (
        "Unschedulable",
        "0/1 nodes are available: 1 Insufficient cpu",
    )
    revision = ground.store.revision
    ground.settle()
    assert ground.store.revision == revision
    ground.delete("pods", "first")
    ground.settle()
    assert ground.get("pods", "second")["spec"]["nodeName"] == "local"


def test_without_nodes_there_is_nowhere_to_go() -> None:
    """As kube-scheduler says it."""
    ground = Ground(Scheduler)
    add_pod(ground, "p")
    ground.settle()
    assert scheduled(ground.get("pods", "p"))["message"] == "no nodes available to schedule pods"


def test_the_emptier_node_is_taken() -> None:
    """Then by name."""
    ground = a_ground()
    add_node(ground, "other")
    for name in ("a", "b", "c"):
        add_pod(ground, name)
        ground.settle()
    assert [ground.get("pods", name)["spec"]["nodeName"] for name in ("a", "b", "c")] == [
        "local",
        "other",
        "local",
    ]


def test_a_claim_is_told_which_node_its_first_consumer_goes_to() -> None:
    """And a missing one keeps the Pod waiting."""
    ground = a_ground()
    volume = {"name": "m", "persistentVolumeClaim": {"claimName": "models"}}
    add_pod(ground, "p", volumes=[volume])
    ground.settle()
    told = scheduled(ground.get("pods", "p"))["message"]
    assert told == '0/1 nodes are available: persistentvolumeclaim "models" not found.'
    claim = {
        "storageClassName": "flexinfer-local",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    ground.make("persistentvolumeclaims", {"metadata": {"name": "models"}, "spec": claim})
    ground.settle()
    assert ground.get("pods", "p")["spec"]["nodeName"] == "local"
    assert ground.get("persistentvolumeclaims", "models")["metadata"]["annotations"][SELECTED_NODE] == "local"
