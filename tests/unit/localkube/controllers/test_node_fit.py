"""Fitting: kube-scheduler's rules and words."""

from typing import Any

import pytest

from localkube.apiserver.resources import Object
from localkube.controllers.node_fit import fit_error, node_info, requests, unschedulable_reasons

GPU = "nvidia.com/gpu"
NO_MATCH = ["node(s) didn't match Pod's node affinity/selector"]


def a_node(
    *,
    ready: bool = True,
    labels: dict[str, str] | None = None,
    allocatable: Object | None = None,
    **spec: Any,
) -> Object:
    """Return a node named `local`."""
    return {
        "metadata": {"name": "local", "labels": labels or {}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110", **(allocatable or {})},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


def a_pod(asks: Object | None = None, **spec: Any) -> Object:
    """Return a Pod that asks for this."""
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"resources": {"requests": asks or {}}}], **spec},
    }


def required(*terms: Object) -> Object:
    """Return a required node affinity."""
    return {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    }


def by_name(name: str) -> Object:
    """Return a term that wants one node."""
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


TAINTED = a_node(taints=[{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}])
GPU_NODE = a_node(allocatable={GPU: "1"}, labels={"zone": "a", "slots": "4"})


@pytest.mark.parametrize(
    ("pod", "node", "expected"),
    [
        pytest.param(a_pod(), a_node(), [], id="fits"),
        pytest.param(a_pod({"cpu": "2500m"}), a_node(), ["Insufficient cpu"], id="too large"),
        pytest.param(a_pod({GPU: "1"}), a_node(), [f"Insufficient {GPU}"], id="no device"),
        pytest.param(a_pod({GPU: "1"}), GPU_NODE, [], id="a device"),
        pytest.param(a_pod(nodeSelector={"zone": "b"}), GPU_NODE, NO_MATCH, id="another label"),
        pytest.param(a_pod(nodeSelector={"zone": "a"}), GPU_NODE, [], id="its label"),
        pytest.param(a_pod(affinity=required(by_name("local"))), a_node(), [], id="by name"),
        pytest.param(a_pod(affinity=required(by_name("other"))), a_node(), NO_MATCH, id="by another name"),
        pytest.param(
            a_pod(
                affinity=required(
                    by_name("other"),
                    {"matchExpressions": [{"key": "slots", "operator": "Gt", "values": ["3"]}]},
                )
            ),
            GPU_NODE,
            [],
            id="one term is enough",
        ),
        pytest.param(a_pod(affinity=required({})), a_node(), NO_MATCH, id="an empty term matches nothing"),
        pytest.param(a_pod(), TAINTED, ["node(s) had untolerated taint {dedicated: gpu}"], id="tainted"),
        pytest.param(
            a_pod(tolerations=[{"key": "dedicated", "operator": "Equal", "value": "gpu"}]),
            TAINTED,
            [],
            id="tolerated",
        ),
        pytest.param(a_pod(tolerations=[{"operator": "Exists"}]), TAINTED, [], id="tolerates all"),
        pytest.param(
            a_pod(),
            a_node(ready=False),
            ["node(s) had untolerated taint {node.kubernetes.io/not-ready: }"],
            id="not ready",
        ),
        pytest.param(a_pod(), a_node(unschedulable=True), ["node(s) were unschedulable"], id="cordoned"),
        pytest.param(a_pod(), a_node(allocatable={"pods": "0"}), ["Too many pods"], id="full"),
    ],
)
def test_a_pod_fits_or_is_told_why_not(pod: Object, node: Object, expected: list[str]) -> None:
    """One rule at a time."""
    assert unschedulable_reasons(pod, node_info(node, [])) == expected


def test_what_other_pods_ask_for_is_taken_and_what_ended_is_free() -> None:
    """Requests, not use."""
    others = [a_pod({"cpu": "1500m"}), {**a_pod({"cpu": "1500m"}), "status": {"phase": "Succeeded"}}]
    assert unschedulable_reasons(a_pod({"cpu": "600m"}), node_info(a_node(), others)) == ["Insufficient cpu"]
    assert unschedulable_reasons(a_pod({"cpu": "500m"}), node_info(a_node(), others)) == []


def test_a_pod_asks_for_its_containers_together_or_its_largest_init_container() -> None:
    """Limits stand for requests that are not there."""
    pod: Object = {
        "spec": {
            "containers": [
                {"resources": {"limits": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "500m"}}},
            ],
            "initContainers": [{"resources": {"requests": {"cpu": "2", "memory": "1"}}}],
        }
    }
    assert requests(pod) == {"cpu": 2000, "memory": 1000}


def test_the_refusal_counts_nodes_by_reason() -> None:
    """In kube-scheduler's words."""
    assert fit_error({"a": ["Insufficient cpu"], "b": ["Insufficient cpu"], "c": NO_MATCH}) == (
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 Insufficient cpu. preemption: "
        "0/3 nodes are available: 2 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    )
