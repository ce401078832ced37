"""What an API server adds to a new Pod by admission, wherever the Pod comes from."""

from typing import Any

import pytest

from localkube.apiserver.builtin_strategy import admitted_pod


def admitted(**spec: Any) -> dict[str, Any]:
    """Return the spec of a Pod after admission."""
    told: dict[str, Any] = admitted_pod({"spec": spec})["spec"]
    return told


def patience(spec: dict[str, Any]) -> dict[str, Any]:
    """Return how long a Pod stays on a node with a taint: key -> seconds."""
    return {one["key"]: one.get("tolerationSeconds") for one in spec["tolerations"] if "key" in one}


def test_a_pod_gets_an_account_a_priority_and_patience() -> None:
    """Five minutes with a node that is away, as the admission plugin DefaultTolerationSeconds gives."""
    spec = admitted()
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert patience(spec) == {"node.kubernetes.io/not-ready": 300, "node.kubernetes.io/unreachable": 300}


def test_what_a_pod_says_itself_stands() -> None:
    """Its account, and its own patience for one of the two taints."""
    own = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    spec = admitted(serviceAccountName="flexinfer-launcher", tolerations=[own | {"tolerationSeconds": 5}])
    assert spec["serviceAccountName"] == "flexinfer-launcher"
    assert patience(spec) == {"node.kubernetes.io/not-ready": 300, "node.kubernetes.io/unreachable": 5}


@pytest.mark.parametrize("all_taints", [{"operator": "Exists"}, {"key": "", "operator": "Exists"}])
def test_a_pod_that_tolerates_everything_needs_no_more(all_taints: dict[str, str]) -> None:
    """As a DaemonSet's does."""
    assert admitted(tolerations=[all_taints])["tolerations"] == [all_taints]
