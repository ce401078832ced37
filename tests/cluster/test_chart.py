"""The chart, rendered by a real Helm: with default values it equals deploy/base in every field."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from flexinfer.local.controlplane import programs
from localkube.controlplane.catalogue import KUBERNETES
from tests.instance import Running
from tests.manifests import DEPLOY, Object, key, objects

NAME = "flexinfer"


@pytest.fixture(scope="session")
def helm() -> Path:
    """The path of Helm, built if it is not installed."""
    messages: list[str] = []
    return programs.locate((programs.HELM,), os.environ, messages.append)["helm"]


def rendered(helm: Path, *words: str) -> dict[tuple[str, str, str], Object]:
    """Return the objects that the chart renders."""
    version = ("--kube-version", KUBERNETES)
    done = subprocess.run(
        [helm, "template", NAME, str(DEPLOY / "chart"), "--include-crds", *version, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {key(obj): obj for obj in yaml.safe_load_all(done.stdout) if obj}


def test_the_default_values_render_the_base(helm: Path) -> None:
    """The same objects with the same fields."""
    assert rendered(helm) == {key(obj): obj for obj in objects("base")}


def test_the_second_scheduler_is_rendered_where_it_is_enabled(helm: Path) -> None:
    """As deploy/scheduler has it, with an image of the cluster's version."""
    added = {key(obj): obj for obj in objects("scheduler")}
    assert not added.keys() & rendered(helm).keys()
    enabled = rendered(helm, "--set", "scheduler.enabled=true")
    assert enabled == {key(obj): obj for obj in objects("base")} | added
    image = "registry.k8s.io/kube-scheduler:v1.35.1"
    assert image in images(rendered(helm, "--set", f"scheduler.enabled=true,scheduler.image={image}"))


def test_the_chart_passes_helm_lint(helm: Path) -> None:
    """With --strict."""
    done = subprocess.run(
        [helm, "lint", "--strict", "--kube-version", KUBERNETES, str(DEPLOY / "chart")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def images(rendered: dict[tuple[str, str, str], Object]) -> set[str]:
    """Return every image that any object names."""
    texts = [line.strip() for line in yaml.safe_dump_all(rendered.values()).splitlines()]
    prefixes = ("image: ", "- image: ", "value: ")
    named = [
        line for line in texts if line.startswith(prefixes) and "/" in line and ":" in line.partition(": ")[2]
    ]
    return {line.partition(": ")[2] for line in named}


def test_images_come_from_the_registry_of_the_values(helm: Path) -> None:
    """Images in environment variables of components too."""
    references = images(
        rendered(helm, "--set", "image.registry=r.example,image.tag=2", "--set", "nats.image=n/n:3")
    )
    assert {image for image in references if image.startswith("ghcr.io")} == set()
    assert {"r.example/flexinfer/services:2", "r.example/flexinfer/prefetcher:2", "n/n:3"} <= references


def test_changed_settings_restart_the_pods(helm: Path) -> None:
    """The ConfigMap gets another name, so every Pod template that refers to it changes."""
    before, after = rendered(helm), rendered(helm, "--set", "settings.FLEXINFER_HF_ENDPOINT=http://mirror")
    names = [
        {name for kind, _, name in objs if kind == "ConfigMap" and "settings" in name}
        for objs in (before, after)
    ]
    assert names[0].isdisjoint(names[1])
    (name,) = names[1]
    settings = after["ConfigMap", "flexinfer-system", name]["data"]
    assert settings["FLEXINFER_HF_ENDPOINT"] == "http://mirror"
    assert settings["FLEXINFER_CLUSTER_DOMAIN"] == "cluster.local"
    for kind, _, owner in after:
        if kind == "Deployment":
            assert name in str(after[kind, "flexinfer-system", owner])


def test_storage_and_replicas_follow_the_values(helm: Path) -> None:
    """The volume of NATS and the number of proxies."""
    rendering = rendered(helm, "--set", "nats.storage=9Gi,nats.storageClassName=fast,proxy.replicas=2")
    nats = rendering["StatefulSet", "flexinfer-system", "flexinfer-nats"]["spec"]["volumeClaimTemplates"][0][
        "spec"
    ]
    assert nats["resources"]["requests"]["storage"] == "9Gi"
    assert nats["storageClassName"] == "fast"
    assert rendering["Deployment", "flexinfer-system", "flexinfer-proxy"]["spec"]["replicas"] == 2


def pods(rendering: dict[tuple[str, str, str], Object]) -> dict[str, Object]:
    """Return the Pod spec of every component, by its name."""
    owners = ("Deployment", "DaemonSet", "StatefulSet", "Job")
    return {
        name: obj["spec"]["template"]["spec"] for (kind, _, name), obj in rendering.items() if kind in owners
    }


def test_every_pod_is_pulled_with_the_secrets_of_the_values(helm: Path) -> None:
    """Components, NATS and the Job of the credentials; engines by the setting."""
    words = ("imagePullSecrets[0].name=house", "settings.FLEXINFER_PULL_SECRETS=house")
    for spec in pods(rendered(helm, "--set", ",".join(words))).values():
        assert spec["imagePullSecrets"] == [{"name": "house"}]


def test_the_agent_alone_has_the_runtime_class_of_the_values(helm: Path) -> None:
    """k3s brings NVIDIA's container runtime as a RuntimeClass."""
    specs = pods(rendered(helm, "--set", "agent.runtimeClassName=nvidia"))
    named = {name for name, spec in specs.items() if "runtimeClassName" in spec}
    assert named == {"flexinfer-agent"}
    assert specs["flexinfer-agent"]["runtimeClassName"] == "nvidia"


def notes(helm: Path, plane: Running, *words: str) -> str:
    """Return what `helm install` prints; it asks the API server for what is there, which other tests may have installed, and writes nothing."""
    chart = str(DEPLOY / "chart")
    command = [str(helm), "install", NAME, chart, "--dry-run=client", "--take-ownership", *words]
    done = subprocess.run(command, env=plane.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("NOTES:")[2]


def test_the_notes_say_where_the_images_come_from(helm: Path, plane: Running) -> None:
    """And, while nothing is published, that the default registry has none."""
    assert "No image of FlexInfer is published there yet" in notes(helm, plane)
    own = notes(helm, plane, "--set", "image.registry=r.example,image.tag=2")
    assert "r.example/flexinfer, tag 2" in own
    assert "published" not in own
    assert "flexinfer check" in own
