"""The chart, rendered by a real Helm: by default it is the base, to the last field."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from flexinfer.local.controlplane import programs
from localkube.controlplane.catalogue import KUBERNETES
from tests.manifests import DEPLOY, Object, key, objects

NAME = "flexinfer"


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm of this machine, built if need be."""
    told: list[str] = []
    return programs.locate((programs.HELM,), os.environ, told.append)["helm"]


def rendered(helm: Path, *words: str) -> dict[tuple[str, str, str], Object]:
    """Return what the chart renders to."""
    version = ("--kube-version", KUBERNETES)
    done = subprocess.run(
        [helm, "template", NAME, str(DEPLOY / "chart"), "--include-crds", *version, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {key(obj): obj for obj in yaml.safe_load_all(done.stdout) if obj}


def test_by_default_it_is_the_base(helm: Path) -> None:
    """Nothing more, nothing less, nothing else."""
    assert rendered(helm) == {key(obj): obj for obj in objects("base")}


def test_it_passes_helms_own_checks(helm: Path) -> None:
    """Names, versions, indentation."""
    done = subprocess.run(
        [helm, "lint", "--strict", "--kube-version", KUBERNETES, str(DEPLOY / "chart")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def images(found: dict[tuple[str, str, str], Object]) -> set[str]:
    """Return every image that is named anywhere."""
    texts = [line.strip() for line in yaml.safe_dump_all(found.values()).splitlines()]
    wanted = ("image: ", "- image: ", "value: ")
    named = [
        line for line in texts if line.startswith(wanted) and "/" in line and ":" in line.partition(": ")[2]
    ]
    return {line.partition(": ")[2] for line in named}


def test_images_come_from_where_the_values_say(helm: Path) -> None:
    """Those that services are told of, too."""
    found = images(
        rendered(helm, "--set", "image.registry=r.example,image.tag=2", "--set", "nats.image=n/n:3")
    )
    assert {image for image in found if image.startswith("ghcr.io")} == set()
    assert {"r.example/flexinfer/services:2", "r.example/flexinfer/prefetcher:2", "n/n:3"} <= found


def test_other_settings_make_other_pods(helm: Path) -> None:
    """Their ConfigMap has another name, so everything that reads it is made anew."""
    before, after = rendered(helm), rendered(helm, "--set", "settings.FLEXINFER_HF_ENDPOINT=http://mirror")
    names = [
        {name for kind, _, name in found if kind == "ConfigMap" and "settings" in name}
        for found in (before, after)
    ]
    assert names[0].isdisjoint(names[1])
    (name,) = names[1]
    told = after["ConfigMap", "flexinfer-system", name]["data"]
    assert told["FLEXINFER_HF_ENDPOINT"] == "http://mirror"
    assert told["FLEXINFER_CLUSTER_DOMAIN"] == "cluster.local"
    for kind, _, owner in after:
        if kind == "Deployment":
            assert name in str(after[kind, "flexinfer-system", owner])


def test_the_rest_of_what_users_change(helm: Path) -> None:
    """Where NATS keeps its memory, and how many doors there are."""
    found = rendered(helm, "--set", "nats.storage=9Gi,nats.storageClassName=fast,proxy.replicas=2")
    nats = found["StatefulSet", "flexinfer-system", "flexinfer-nats"]["spec"]["volumeClaimTemplates"][0][
        "spec"
    ]
    assert nats["resources"]["requests"]["storage"] == "9Gi"
    assert nats["storageClassName"] == "fast"
    assert found["Deployment", "flexinfer-system", "flexinfer-proxy"]["spec"]["replicas"] == 2
