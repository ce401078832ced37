"""Faults that only a real node shows: each is told by a condition with its reason, and each heals by itself once its cause is gone."""

import json
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
from tests.node.product import TAG, Product

ENGINE_IMAGE = f"{REGISTRY}/flexinfer/llama-cpu:{TAG}"
NAME = "patient"
DNS_AWAY_SECONDS = 30.0


@pytest.fixture
def patient(product: Product) -> Iterator[Product]:
    """Return the product with a Model that answers and is never idle."""
    product.model(NAME, serverless={"enabled": False})
    product.ready(NAME)
    yield product
    product.delete(NAME)


@pytest.fixture
def empty(product: Product) -> Iterator[Product]:
    """Return the product without that Model; what a test makes of it goes."""
    yield product
    product.delete(NAME)


def test_an_engine_without_memory_says_so_and_starts_when_it_gets_more(empty: Product) -> None:
    """OOM-killed by the kernel: Restarting, with what to raise."""
    empty.model(NAME, resources={"limits": {"memory": "48Mi"}})
    empty.until(NAME, "Ready", "Restarting", 60, "OOMKilled", "spec.resources.limits.memory")
    empty.patch(NAME, resources={"limits": {"memory": "1Gi"}})
    empty.ready(NAME)


def test_an_image_that_does_not_exist_is_said_and_got_once_it_does(empty: Product) -> None:
    """ImagePullFailed in the node's words; kubelet tries again by itself."""
    forget_image(empty.cluster)
    empty.model(NAME)
    empty.until(NAME, "Ready", "ImagePullFailed", 60, ENGINE_IMAGE)
    images.push_product(["llama-cpu"], TAG)
    empty.ready(NAME)


def test_an_image_of_another_architecture_is_said_and_got_once_it_fits(
    empty: Product, tmp_path: Path
) -> None:
    """ImagePullFailed: nothing of it suits this machine."""
    forget_image(empty.cluster)
    push_foreign_image(tmp_path)
    empty.model(NAME)
    empty.until(NAME, "Ready", "ImagePullFailed", 60, "platform")
    images.push_product(["llama-cpu"], TAG)
    empty.ready(NAME)


def test_a_kubelet_that_restarts_disturbs_nobody(patient: Product) -> None:
    """The engine is the same process, and answers meanwhile."""
    before = container(patient)
    processes.stop(patient.cluster.layout, "kubelet", signal.SIGKILL)
    assert "Paris" in patient.ask(NAME)
    start_kubelet(patient.cluster)
    patient.cluster.await_node(FIRST)
    assert "Paris" in patient.ask(NAME)
    assert container(patient) == before


def test_a_containerd_that_restarts_disturbs_nobody(patient: Product) -> None:
    """Its helpers keep the containers; a Model applied meanwhile starts when it is back."""
    before = container(patient)
    processes.stop(patient.cluster.layout, "containerd", signal.SIGKILL)
    assert "Paris" in patient.ask(NAME)
    patient.model("meanwhile")
    try:
        patient.cluster.start_runtime(FIRST)
        patient.ready("meanwhile")
        assert container(patient) == before
    finally:
        patient.delete("meanwhile")


def test_an_evicted_engine_comes_back(patient: Product) -> None:
    """By the eviction API, as `kubectl drain` does."""
    before = patient.engine(NAME)["metadata"]["uid"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": f"{NAME}-0", "namespace": "default"},
    }
    path = f"/api/v1/namespaces/default/pods/{NAME}-0/eviction"
    patient.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    patient.until(NAME, "Ready", "Restarting", 40, "Pod")
    patient.ready(NAME)
    assert patient.engine(NAME)["metadata"]["uid"] != before
    assert "Paris" in patient.ask(NAME)


def test_a_claim_that_will_not_mount_is_said_and_mounted_once_it_does(empty: Product) -> None:
    """The folder behind it is missing: kubelet says so in an event alone, so Cached says where to look."""
    folder = empty.cluster.layout.claims(FIRST) / "broken"
    empty.kubectl("apply", "-f", "-", stdin=json.dumps(a_claim("broken", view.VOLUMES / "broken")))
    try:
        empty.model(NAME, source="pvc://broken/smollm2.gguf")
        empty.until(NAME, "Cached", "Checking", 60, "ContainerCreating", "kubectl describe pods")
        weights = empty.cluster.layout.claims(FIRST) / "default" / "models" / "smollm2.gguf"
        folder.mkdir()
        (folder / weights.name).hardlink_to(weights)
        empty.ready(NAME)
    finally:
        empty.delete(NAME)
        empty.kubectl("delete", "pvc,pv", "broken", "--timeout=60s")


def test_dns_away_for_half_a_minute_loses_no_answer(patient: Product) -> None:
    """Nothing on the way of an answer asks for a name; connections that stand need none."""
    over = time.monotonic() + DNS_AWAY_SECONDS
    processes.send(patient.cluster.layout, "coredns", signal.SIGSTOP)
    try:
        while time.monotonic() < over:
            assert "Paris" in patient.ask(NAME)
            assert patient.phase(NAME) == "Ready"
    finally:
        processes.send(patient.cluster.layout, "coredns", signal.SIGCONT)


def container(product: Product) -> str:
    """Return which container the engine is."""
    (status,) = product.engine(NAME)["status"]["containerStatuses"]
    return str(status["containerID"])


def start_kubelet(cluster: Cluster) -> None:
    """Start the first node's kubelet."""
    cluster.start(parts.kubelet(cluster.layout, FIRST, cluster.programs))


def a_claim(name: str, folder: Path) -> dict[str, object]:
    """Return a claim that is bound to a folder of the node, which must exist."""
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
    """Take the engine's image away, from the node and from the registry."""
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
    """Push an index under the engine's name that has an image for another architecture alone."""
    images.push_foreign(ENGINE_IMAGE, folder, "linux/s390x")
