"""Binding: Pods come to nodes, or say why not."""

from typing import Any

from localkube.apiserver.requests import Patch
from localkube.apiserver.resources import Object
from localkube.controllers.scheduler import SELECTED_NODE, Scheduler
from tests.unit.localkube.controllers.harness import NAMESPACE, Harness


def a_harness() -> Harness:
    """Return a harness with a ready node."""
    harness = Harness(Scheduler)
    add_node(harness, "local")
    return harness


def add_node(harness: Harness, name: str, cpu: str = "2") -> None:
    """Add a ready node."""
    status = {"allocatable": {"cpu": cpu, "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}
    harness.make("nodes", {"metadata": {"name": name}, "status": status})


def add_pod(harness: Harness, name: str, cpu: str = "1", **spec: Any) -> None:
    """Add a Pod that asks for this much."""
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    harness.make("pods", {"metadata": {"name": name}, "spec": {"containers": [container], **spec}})


def scheduled(pod: Object) -> Object:
    """Return the condition PodScheduled."""
    return next((c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled"), {})


def test_a_pod_is_bound_and_says_so() -> None:
    """Node, condition, Event."""
    harness = a_harness()
    add_pod(harness, "p")
    harness.settle()
    pod = harness.get("pods", "p")
    assert (pod["spec"]["nodeName"], scheduled(pod)["status"]) == ("local", "True")
    assert harness.events() == [("Scheduled", f"Successfully assigned {NAMESPACE}/p to local")]


def test_a_gated_pod_waits_until_its_gate_goes() -> None:
    """The launcher's turn."""
    harness = a_harness()
    add_pod(harness, "p", schedulingGates=[{"name": "flexinfer.ai/turn-1"}])
    harness.settle()
    assert "nodeName" not in harness.get("pods", "p")["spec"]
    opened = Patch("merge", {"spec": {"schedulingGates": None}})
    harness.store.patch(harness.resource("pods"), NAMESPACE, "p", opened)
    harness.settle()
    assert harness.get("pods", "p")["spec"]["nodeName"] == "local"


def test_a_pod_that_fits_nowhere_is_unschedulable_until_there_is_room() -> None:
    """And said once, not at every look."""
    harness = a_harness()
    add_pod(harness, "first", cpu="2")
    harness.settle()
    add_pod(harness, "second", cpu="1")
    harness.settle()
    told = scheduled(harness.get("pods", "second"))
    assert (told["reason"], told["message"].partition(".")[0]) == (
        "Unschedulable",
        "0/1 nodes are available: 1 Insufficient cpu",
    )
    revision = harness.store.revision
    harness.settle()
    assert harness.store.revision == revision
    harness.delete("pods", "first")
    harness.settle()
    assert harness.get("pods", "second")["spec"]["nodeName"] == "local"


def test_without_nodes_there_is_nowhere_to_go() -> None:
    """As kube-scheduler says it."""
    harness = Harness(Scheduler)
    add_pod(harness, "p")
    harness.settle()
    assert scheduled(harness.get("pods", "p"))["message"] == "no nodes available to schedule pods"


def test_the_emptier_node_is_taken() -> None:
    """Then by name."""
    harness = a_harness()
    add_node(harness, "other")
    for name in ("a", "b", "c"):
        add_pod(harness, name)
        harness.settle()
    assert [harness.get("pods", name)["spec"]["nodeName"] for name in ("a", "b", "c")] == [
        "local",
        "other",
        "local",
    ]


def test_a_claim_is_told_which_node_its_first_consumer_goes_to() -> None:
    """And a missing one keeps the Pod waiting."""
    harness = a_harness()
    volume = {"name": "m", "persistentVolumeClaim": {"claimName": "models"}}
    add_pod(harness, "p", volumes=[volume])
    harness.settle()
    told = scheduled(harness.get("pods", "p"))["message"]
    assert told == '0/1 nodes are available: persistentvolumeclaim "models" not found.'
    claim = {
        "storageClassName": "flexinfer-local",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    harness.make("persistentvolumeclaims", {"metadata": {"name": "models"}, "spec": claim})
    harness.settle()
    assert harness.get("pods", "p")["spec"]["nodeName"] == "local"
    assert (
        harness.get("persistentvolumeclaims", "models")["metadata"]["annotations"][SELECTED_NODE] == "local"
    )
