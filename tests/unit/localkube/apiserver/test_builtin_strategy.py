"""The default admission plugins on a new Pod."""

from typing import Any

import pytest

from localkube.apiserver.builtin_strategy import admit_pod


def admitted(**spec: Any) -> dict[str, Any]:
    """Return the spec of a Pod after admission."""
    pod_spec: dict[str, Any] = admit_pod({"spec": spec})["spec"]
    return pod_spec


def toleration_seconds(spec: dict[str, Any]) -> dict[str, Any]:
    """Return how long a Pod stays on a node with a taint, in seconds by key of the taint."""
    return {one["key"]: one.get("tolerationSeconds") for one in spec["tolerations"] if "key" in one}


def test_a_pod_gets_an_account_a_priority_and_tolerations() -> None:
    """Five minutes on a node that is not ready, as DefaultTolerationSeconds adds."""
    spec = admitted()
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert toleration_seconds(spec) == {
        "node.kubernetes.io/not-ready": 300,
        "node.kubernetes.io/unreachable": 300,
    }


def test_the_values_of_a_pod_are_kept() -> None:
    """Its account, and its toleration of one of the two taints."""
    own = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    spec = admitted(serviceAccountName="flexinfer-launcher", tolerations=[own | {"tolerationSeconds": 5}])
    assert spec["serviceAccountName"] == "flexinfer-launcher"
    assert toleration_seconds(spec) == {
        "node.kubernetes.io/not-ready": 300,
        "node.kubernetes.io/unreachable": 5,
    }


@pytest.mark.parametrize("all_taints", [{"operator": "Exists"}, {"key": "", "operator": "Exists"}])
def test_a_pod_that_tolerates_everything_gets_no_tolerations(all_taints: dict[str, str]) -> None:
    """As the Pods of DaemonSets do."""
    assert admitted(tolerations=[all_taints])["tolerations"] == [all_taints]
