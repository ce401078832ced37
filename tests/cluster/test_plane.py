"""The control plane of the tests is a real one: four processes, RBAC, and data that survives their death."""

import json
import os
import signal

import pytest

from localkube.controlplane import catalogue
from tests.instance import Running, until

NAMES = [source.name for source in catalogue.CONTROL_PLANE]


def test_four_processes_are_healthy_and_no_component_of_flexinfer_runs(plane: Running) -> None:
    """etcd, API server, controller manager, scheduler."""
    assert {name: row["health"] for name, row in plane.services().items()} == dict.fromkeys(NAMES, "healthy")


def test_the_version_is_that_of_the_release(plane: Running) -> None:
    """A build without version flags would report v0.0.0."""
    version = json.loads(plane.kubectl("get", "--raw", "/version"))
    assert version["gitVersion"] == f"v{catalogue.KUBERNETES}"


def test_rbac_is_enforced(plane: Running) -> None:
    """A ServiceAccount without a Role may do nothing."""
    words = ("auth", "can-i", "create", "pods", "--as", "system:serviceaccount:default:default")
    assert plane.kubectl(*words, check=False) == "no\n"


@pytest.mark.parametrize("victim", NAMES)
def test_data_survives_the_kill_of_a_process(plane: Running, victim: str) -> None:
    """The supervisor restarts the process."""
    plane.kubectl("create", "configmap", f"kept-{victim}", "--from-literal=a=b")
    before = plane.pid(victim)
    assert before
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        now = plane.services()[victim]
        return now["pid"] not in (None, before) and now["health"] == "healthy"

    until(back, 30, f"{victim} is healthy")
    until(
        lambda: "kept" in plane.kubectl("get", "configmap", f"kept-{victim}", check=False),
        20,
        "the ConfigMap exists",
    )
