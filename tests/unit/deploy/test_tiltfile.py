"""The Tiltfile, evaluated without Tilt: what it builds, in which order, and where it refuses to work."""

import functools
from typing import Any

import pytest
import starlark

from localkube.yaml_documents import documents
from tests.unit.deploy.tilt import Tilt, kustomized

BUILDAH = {"engine": "buildah", "registry": "localhost:5000"}
DOCKER = {"engine": "docker", "registry": ""}
SERVER = "10.251.0.1"
FILES = {
    "kubeconfig": f"""
contexts: [{{name: c, context: {{cluster: here, user: u}}}}]
clusters: [{{name: here, cluster: {{server: 'https://{SERVER}:6443'}}}}]
""",
    "/proc/net/fib_trie": f"        |-- {SERVER}\n           /32 host LOCAL\n        |-- 10.9.9.9\n           /24 link UNICAST\n",
}
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "Job")
manifests = functools.cache(kustomized)


def evaluated(machine: dict[str, Any], **settings: Any) -> Tilt:
    """Return a Tilt that has read the Tiltfile."""
    tilt = Tilt(machine, FILES, **settings)
    tilt.evaluate()
    return tilt


@pytest.mark.parametrize("machine", [BUILDAH, DOCKER], ids=["buildah", "docker"])
def test_every_image_that_the_manifests_name_is_built(machine: dict[str, Any]) -> None:
    """And it has the name that they use."""
    tilt = evaluated(machine)
    built = {call["ref"] for call in (*tilt.of("docker_build"), *tilt.of("custom_build"))}
    named = {
        container["image"].rpartition(":")[0]
        for thing in documents(manifests())
        if thing["kind"] in WORKLOADS
        for container in thing["spec"]["template"]["spec"]["containers"]
    }
    assert named <= built
    assert "localhost:5000/flexinfer/llama-cpu" in built


def test_every_workload_has_its_place_and_nothing_waits_for_what_is_not_there() -> None:
    """Neither is there a circle."""
    tilt = evaluated(BUILDAH, models=["smollm2,smollm2-again"], gpu="fake")  # Tilt splits nothing by itself
    waits = tilt.resources()
    assert {"smollm2-healthy", "smollm2-again-healthy"} <= waits.keys()
    workloads = {t["metadata"]["name"] for t in documents(manifests()) if t["kind"] in WORKLOADS}
    assert workloads <= waits.keys()
    assert {need for needs in waits.values() for need in needs} <= waits.keys()
    done: set[str] = set()
    while ready := {name for name, needs in waits.items() if name not in done and set(needs) <= done}:
        done |= ready
    assert done == waits.keys()
    assert waits["established"] == ["platform"]
    assert "established" in waits["flexinfer-credentials"]


def test_a_model_is_never_waited_for_by_its_pods() -> None:
    """Asleep it has none, and `tilt ci` would wait for ever."""
    tilt = evaluated(BUILDAH)
    (model,) = [call for call in tilt.of("k8s_resource") if call.get("workload") == "smollm2"]
    assert model["pod_readiness"] == "ignore"
    assert tilt.of("k8s_kind")[0]["pod_readiness"] == "ignore"
    assert tilt.resources()["smollm2-healthy"] == ["smollm2"]


def test_a_source_that_changed_goes_into_the_running_containers() -> None:
    """Below the folders that the development image reads."""
    tilt = evaluated(BUILDAH)
    (dev,) = [call for call in tilt.of("custom_build") if call["ref"].endswith("/dev")]
    assert len(dev["live_update"]) == 3
    assert [(s["local_path"], s["remote_path"]) for s in tilt.of("sync")] == [
        ("shared", "/app/shared"),
        ("services", "/app/services"),
    ]


def test_a_cluster_of_this_machine_may_be_used_and_another_only_by_name() -> None:
    """An address that is not this machine's, or a tunnel on loopback, proves nothing."""
    assert [call["contexts"] for call in evaluated(BUILDAH).of("allow_k8s_contexts")] == ["c"]
    for address in ("10.9.9.9", "127.0.0.1", "192.0.2.1"):
        away = Tilt(BUILDAH, FILES | {"kubeconfig": FILES["kubeconfig"].replace(SERVER, address)})
        away.evaluate()
        assert not away.of("allow_k8s_contexts")
    named = Tilt(BUILDAH, {}, context="staging")
    named.evaluate()
    assert [call["contexts"] for call in named.of("allow_k8s_contexts")] == ["staging"]


def test_a_registry_that_is_named_is_used() -> None:
    """The usual one is in the images' names already."""
    assert not evaluated(BUILDAH).of("default_registry")
    assert evaluated(BUILDAH, registry="localhost:5005").of("default_registry") == [
        {"host": "localhost:5005"}
    ]


def test_without_a_builder_it_says_what_to_install() -> None:
    """In one sentence."""
    with pytest.raises(starlark.StarlarkError, match="apt-get install buildah"):
        evaluated({"engine": "", "registry": ""})
