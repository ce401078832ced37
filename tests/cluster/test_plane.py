"""The control plane of the tests is a real one: four processes, rights enforced, and what it knows survives all of them."""

import json
import os
import signal

import pytest

from localkube.controlplane import catalogue
from tests.instance import Running, until

NAMES = [source.name for source in catalogue.CONTROL_PLANE]


def test_four_processes_answer_and_nothing_of_ours_runs(plane: Running) -> None:
    """etcd, API server, controllers, scheduler."""
    assert {name: row["health"] for name, row in plane.services().items()} == dict.fromkeys(NAMES, "healthy")


def test_it_says_its_version(plane: Running) -> None:
    """As a release of Kubernetes does; a build without its version flags would say v0.0.0."""
    told = json.loads(plane.kubectl("get", "--raw", "/version"))
    assert told["gitVersion"] == f"v{catalogue.KUBERNETES}"


def test_rights_are_enforced(plane: Running) -> None:
    """A ServiceAccount without a Role may do nothing."""
    words = ("auth", "can-i", "create", "pods", "--as", "system:serviceaccount:default:default")
    assert plane.kubectl(*words, check=False) == "no\n"


@pytest.mark.parametrize("victim", NAMES)
def test_what_it_knows_survives_a_kill(plane: Running, victim: str) -> None:
    """The supervisor starts a dead one again."""
    plane.kubectl("create", "configmap", f"kept-{victim}", "--from-literal=a=b")
    before = plane.pid(victim)
    assert before
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        now = plane.services()[victim]
        return now["pid"] not in (None, before) and now["health"] == "healthy"

    until(back, 30, f"{victim} is back")
    until(
        lambda: "kept" in plane.kubectl("get", "configmap", f"kept-{victim}", check=False), 20, "it is there"
    )
