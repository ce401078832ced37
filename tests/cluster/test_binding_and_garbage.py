"""The real scheduler binds every Pod, and the garbage collector deletes exactly what a deleted Model owned."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.instance import Instance
from tests.instance import until
from tests.patience import patient

SCHEDULER = "default-scheduler"
MODELS = ("kept", "doomed")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance on a real control plane with two Models that are never idle."""
    running = Instance(tmp_path_factory.mktemp("garbage"), "--api", "real")
    try:
        running.apply(*MODELS)
        for name in MODELS:
            running.until(name, "condition=Ready", 90)
        yield running
    finally:
        running.down()


def objects(instance: Instance, kinds: str) -> list[dict[str, Any]]:
    """Return the objects of these kinds in the namespace of the Models."""
    items: list[dict[str, Any]] = json.loads(instance.kubectl("get", kinds, "-o", "json"))["items"]
    return items


def names(instance: Instance, kinds: str) -> set[str]:
    """Return the objects of these kinds as kind/name."""
    return {f"{o['kind']}/{o['metadata']['name']}" for o in objects(instance, kinds)}


def test_the_real_scheduler_binds_every_pod(instance: Instance) -> None:
    """Engines and the Pods of Jobs: each has its `Scheduled` Event, and no other component bound one."""
    pods = {pod["metadata"]["name"] for pod in objects(instance, "pods")}
    assert {f"{name}-0" for name in MODELS} <= pods
    scheduled = [e for e in objects(instance, "events") if e["reason"] == "Scheduled"]
    bound = {event["involvedObject"]["name"] for event in scheduled}
    assert pods <= bound
    assert any("-check-" in name for name in bound), "the presence check ran as a Pod of a Job"
    assert {event["reportingComponent"] for event in scheduled} == {SCHEDULER}


def test_deleting_a_model_deletes_what_it_owned_and_nothing_else(instance: Instance) -> None:
    """PVCs stay, and so do foreign objects with the labels of FlexInfer."""
    doomed = json.loads(instance.kubectl("get", "mdl", "doomed", "-o", "json"))["metadata"]
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
    instance.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [foreign, owned]})
    )
    kinds = "pods,services,jobs,configmaps,persistentvolumeclaims"
    before = names(instance, kinds)
    gone = {"Pod/doomed-0", "Service/doomed", "Job/owned"}
    assert gone < before
    instance.kubectl("delete", "mdl", "doomed", f"--timeout={patient(60):g}s")
    until(lambda: not gone & names(instance, kinds), 30, "the objects that it owned are deleted")
    assert names(instance, kinds) == before - gone
    assert {"ConfigMap/foreign", "PersistentVolumeClaim/models", "Pod/kept-0"} <= before - gone
