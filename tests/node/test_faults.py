"""Faults of a real node: a condition reports each with its reason, and it ends when its cause is removed."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import images, parts, processes, view
from tests.node.cluster import Cluster
from tests.node.layout import FIRST, REGISTRY
from tests.node.product import SYSTEM, TAG, Product
from tests.node.waiting import until
from tests.patience import patient

ENGINE_IMAGE = f"{REGISTRY}/flexinfer/llama-cpu:{TAG}"
NAME = "steady"
DNS_OUTAGE_SECONDS = 30.0


@pytest.fixture
def steady(product: Product) -> Iterator[Product]:
    """Return the product with a Model that is ready and never idle."""
    product.model(NAME, serverless={"enabled": False})
    product.ready(NAME)
    yield product
    product.delete(NAME)


@pytest.fixture
def without_model(product: Product) -> Iterator[Product]:
    """Return the product without that Model; a Model that the test creates is deleted afterwards."""
    yield product
    product.delete(NAME)


def test_an_oom_killed_engine_is_reported_and_starts_with_more_memory(without_model: Product) -> None:
    """Ready is False/BackOff from its second end on, and its message names the field to increase."""
    without_model.model(NAME, resources={"limits": {"memory": "48Mi"}})
    without_model.until(NAME, "Ready", "BackOff", 60, "OOMKilled", "spec.resources.limits.memory")
    without_model.patch(NAME, resources={"limits": {"memory": "1Gi"}})
    without_model.ready(NAME)


def test_a_missing_image_is_reported_and_pulled_once_it_exists(without_model: Product) -> None:
    """ImagePullFailed with the message of kubelet, which retries."""
    forget_image(without_model.cluster)
    without_model.model(NAME)
    without_model.until(NAME, "Ready", "ImagePullFailed", 60, ENGINE_IMAGE)
    images.push_product(["llama-cpu"], TAG)
    without_model.ready(NAME)


def test_an_image_of_another_architecture_is_reported_and_pulled_once_it_matches(
    without_model: Product, tmp_path: Path
) -> None:
    """ImagePullFailed: the index has no image for this platform."""
    forget_image(without_model.cluster)
    push_foreign_image(tmp_path)
    without_model.model(NAME)
    without_model.until(NAME, "Ready", "ImagePullFailed", 60, "platform")
    images.push_product(["llama-cpu"], TAG)
    without_model.ready(NAME)


def test_a_restart_of_kubelet_does_not_affect_the_model(steady: Product) -> None:
    """The engine is the same process, and requests succeed meanwhile."""
    before = container(steady)
    processes.stop(steady.cluster.layout, "kubelet", signal.SIGKILL)
    assert "Paris" in steady.ask(NAME)
    start_kubelet(steady.cluster)
    steady.cluster.wait_for_node(FIRST)
    assert "Paris" in steady.ask(NAME)
    assert container(steady) == before


def test_a_restart_of_containerd_does_not_affect_the_model(steady: Product) -> None:
    """Its shims keep the containers; a Model applied meanwhile starts after the restart."""
    before = container(steady)
    processes.stop(steady.cluster.layout, "containerd", signal.SIGKILL)
    assert "Paris" in steady.ask(NAME)
    steady.model("meanwhile")
    try:
        steady.cluster.start_runtime(FIRST)
        steady.ready("meanwhile")
        assert container(steady) == before
    finally:
        steady.delete("meanwhile")


def test_an_engine_that_does_not_answer_during_an_upgrade_is_kept(steady: Product) -> None:
    """The newer launcher has another image for it, which its next start would have; its process continues where it was."""
    before, process, leader = container(steady), engine_process(steady), leading(steady)
    launcher = ("deployment/flexinfer-launcher", "-n", SYSTEM)
    os.kill(process, signal.SIGSTOP)
    try:
        steady.until(NAME, "Ready", "Restarting", 60, "no answer")
        steady.kubectl(
            "set", "env", *launcher, f"FLEXINFER_IMAGE_LLAMACPP_CPU={REGISTRY}/flexinfer/another:1"
        )
        until(lambda: leading(steady) not in ("", leader), 60, "the newer launcher leads")
        steady.kubectl("rollout", "status", *launcher, f"--timeout={patient(60):.0f}s")
        steady.until(NAME, "Ready", "Restarting", 60, "no answer")
        os.kill(process, signal.SIGCONT)
        steady.ready(NAME)
        assert container(steady) == before
        assert "Paris" in steady.ask(NAME)
    finally:
        os.kill(process, signal.SIGCONT)
        steady.kubectl("rollout", "undo", *launcher)
        steady.kubectl("rollout", "status", *launcher, f"--timeout={patient(60):.0f}s")


def leading(product: Product) -> str:
    """Return which launcher leads."""
    words = ("get", "lease", "flexinfer-launcher", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}")
    return product.kubectl(*words)


def engine_process(product: Product) -> int:
    """Return the pid of the engine, as containerd of the node lists it."""
    layout, (_, _, name) = product.cluster.layout, container(product).partition("://")
    words = (str(product.cluster.programs["ctr"]), "--address", str(layout.socket(FIRST)))
    command = (*view.command(layout, FIRST), *words, "--namespace", "k8s.io", "tasks", "ls")
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return next(int(line.split()[1]) for line in listed if line.startswith(name))


def test_an_evicted_engine_is_started_again(steady: Product) -> None:
    """After an eviction by the API, as by `kubectl drain`."""
    before = steady.engine(NAME)["metadata"]["uid"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": f"{NAME}-0", "namespace": "default"},
    }
    path = f"/api/v1/namespaces/default/pods/{NAME}-0/eviction"
    steady.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    until(lambda: _uid(steady) not in ("", before), 40, "there is another Pod")
    steady.ready(NAME)
    until(lambda: "Restarting" in _told(steady), 40, "an Event reports it")
    assert "Paris" in steady.ask(NAME)


def _uid(product: Product) -> str:
    """Return the uid of the engine's Pod; empty while there is none."""
    return str(product.engine(NAME).get("metadata", {}).get("uid", ""))


def _told(product: Product) -> set[str]:
    """Return the reasons of the Events of the Model."""
    words = ("get", "events", "--field-selector", f"involvedObject.kind=Model,involvedObject.name={NAME}")
    return set(product.kubectl(*words, "-o", "jsonpath={.items[*].reason}").split())


def test_a_pvc_that_cannot_be_mounted_is_reported_and_mounted_once_it_can(without_model: Product) -> None:
    """Its folder is missing; kubelet reports that in an Event only, so Cached says where to look."""
    folder = without_model.cluster.layout.claims(FIRST) / "broken"
    without_model.kubectl("apply", "-f", "-", stdin=json.dumps(a_claim("broken", view.VOLUMES / "broken")))
    try:
        without_model.model(NAME, source="pvc://broken/smollm2.gguf")
        without_model.until(NAME, "Cached", "Checking", 60, "ContainerCreating", "kubectl describe pods")
        weights = without_model.cluster.layout.claims(FIRST) / "default" / "models" / "smollm2.gguf"
        folder.mkdir()
        (folder / weights.name).hardlink_to(weights)
        without_model.ready(NAME)
    finally:
        without_model.delete(NAME)
        without_model.kubectl("delete", "pvc,pv", "broken", f"--timeout={patient(60):.0f}s")


def test_a_dns_outage_of_half_a_minute_fails_no_request(steady: Product) -> None:
    """No request needs a DNS lookup; established connections need none either."""
    deadline = time.monotonic() + DNS_OUTAGE_SECONDS
    processes.send(steady.cluster.layout, "coredns", signal.SIGSTOP)
    try:
        while time.monotonic() < deadline:
            assert "Paris" in steady.ask(NAME)
            assert steady.phase(NAME) == "Ready"
    finally:
        processes.send(steady.cluster.layout, "coredns", signal.SIGCONT)


def container(product: Product) -> str:
    """Return the container ID of the engine."""
    (status,) = product.engine(NAME)["status"]["containerStatuses"]
    return str(status["containerID"])


def start_kubelet(cluster: Cluster) -> None:
    """Start the first node's kubelet."""
    cluster.start(parts.kubelet(cluster.layout, FIRST, cluster.programs))


def a_claim(name: str, folder: Path) -> dict[str, object]:
    """Return a PVC and its PersistentVolume on a folder of the node, which must exist."""
    size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
    common: dict[str, object] = {"storageClassName": "", "accessModes": modes, "volumeName": name}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": size,
            "accessModes": modes,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"namespace": "default", "name": name},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": common | {"resources": {"requests": size}},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [volume, claim]}


def forget_image(cluster: Cluster) -> None:
    """Delete the engine's image from the node and from the registry."""
    layout, programs = cluster.layout, cluster.programs
    words = (str(programs["ctr"]), "--address", str(layout.socket(FIRST)), "--namespace", "k8s.io")
    subprocess.run(
        (*view.command(layout, FIRST), *words, "images", "rm", "--sync", ENGINE_IMAGE),
        check=True,
        capture_output=True,
    )
    tags = layout.root / "registry/docker/registry/v2/repositories/flexinfer/llama-cpu/_manifests/tags"
    shutil.rmtree(tags / TAG)


def push_foreign_image(folder: Path) -> None:
    """Push an index under the name of the engine's image that only has an image for another architecture."""
    images.push_foreign(ENGINE_IMAGE, folder, "linux/s390x")
