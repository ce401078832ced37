"""The real scheduler binds every Pod of ours, and the real garbage collector takes what a deleted Model owned and nothing else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.instance import Instance
from tests.instance import until

SCHEDULER = "default-scheduler"
MODELS = ("kept", "doomed")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance on a real control plane with two Models, of which neither is idle."""
    running = Instance(tmp_path_factory.mktemp("garbage"), "--api", "real")
    try:
        running.apply(*MODELS)
        for name in MODELS:
            running.until(name, "condition=Ready", 90)
        yield running
    finally:
        running.down()


def objects(house: Instance, kinds: str) -> list[dict[str, Any]]:
    """Return objects of these kinds in the Models' namespace."""
    found: list[dict[str, Any]] = json.loads(house.kubectl("get", kinds, "-o", "json"))["items"]
    return found


def names(house: Instance, kinds: str) -> set[str]:
    """Return them as kind/name."""
    return {f"{o['kind']}/{o['metadata']['name']}" for o in objects(house, kinds)}


def test_the_real_scheduler_binds_every_pod(house: Instance) -> None:
    """Engines and the Pods of Jobs alike: each has its `Scheduled` Event, and nobody else bound any."""
    pods = {pod["metadata"]["name"] for pod in objects(house, "pods")}
    assert {f"{name}-0" for name in MODELS} <= pods
    told = [e for e in objects(house, "events") if e["reason"] == "Scheduled"]
    bound = {event["involvedObject"]["name"] for event in told}
    assert pods <= bound
    assert any("-check-" in name for name in bound), "the presence check ran as a Pod of a Job"
    assert {event["reportingComponent"] for event in told} == {SCHEDULER}


def test_what_a_deleted_model_owned_goes_and_nothing_else(house: Instance) -> None:
    """Claims stay, and what is not ours stays although it bears our labels."""
    doomed = json.loads(house.kubectl("get", "mdl", "doomed", "-o", "json"))["metadata"]
    labels = {"flexinfer.ai/model": "doomed", "flexinfer.ai/model-uid": doomed["uid"]}
    foreign = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "foreign", "labels": labels},
    }
    owner = {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "name": "doomed",
        "uid": doomed["uid"],
    }
    owned = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "owned", "labels": labels, "ownerReferences": [owner]},
        "spec": {
            "suspend": True,
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]},
            },
        },
    }
    house.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [foreign, owned]})
    )
    kinds = "pods,services,jobs,configmaps,persistentvolumeclaims"
    before = names(house, kinds)
    gone = {"Pod/doomed-0", "Service/doomed", "Job/owned"}
    assert gone < before
    house.kubectl("delete", "mdl", "doomed", "--timeout=60s")
    until(lambda: not gone & names(house, kinds), 30, "what it owned is gone")
    assert names(house, kinds) == before - gone
    assert {"ConfigMap/foreign", "PersistentVolumeClaim/models", "Pod/kept-0"} <= before - gone
