"""Devices of a real node, in the three ways in which Pods get them: the engine has those of its placement, and others wait (G20).

The cards do not exist, but all else does: kubelet, containerd, a DRA driver, a device plugin, and the agent, which reads its devices from
a file. Each way is tried with the Models of the one before gone, as on a node whose administrator installs one after the other.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.sources.pod import UNPRIVILEGED
from tests.node import parts, processes, view, vllm
from tests.node.cards import FILE, apply, bound_by_runtime_class, reported
from tests.node.cluster import Cluster
from tests.node.files import RUNTIME_CLASS
from tests.node.layout import FIRST, REGISTRY
from tests.node.product import SYSTEM, TAG, Product
from tests.node.waiting import until

DRIVER, RESOURCE = "gpu.flexinfer.test", "nvidia.com/gpu"
LARGE, SMALL = "GPU-aaaa", "GPU-bbbb"
"""The card that several claims may have, of 24 GiB, and the one of 6 GiB that one claim has."""
CARDS = (
    {"uuid": LARGE, "name": "RTX 3090", "architecture": "sm_86", "totalMb": 24576, "freeMb": 24000},
    {"uuid": SMALL, "name": "RTX 2060", "architecture": "sm_75", "totalMb": 6144, "freeMb": 6000},
)
SECONDS = 60.0
Json = dict[str, Any]


@pytest.fixture(scope="module")
def carded(product: Product) -> Iterator[Product]:
    """Return the product on a node whose agent reports two cards, and whose images serve NVIDIA's by the CPU."""
    cluster = product.cluster
    content = {FILE: json.dumps({"devices": CARDS})}
    metadata = {"name": "cards", "namespace": SYSTEM}
    apply(cluster, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": content})
    image = f"{REGISTRY}/flexinfer/llama-cpu:{TAG}"
    with reported(cluster, {"configMap": {"name": "cards"}}, image):
        yield product
        product.remove_models()
    cluster.kubectl("delete", "configmap", "cards", "-n", SYSTEM)


@pytest.fixture(scope="module")
def files(carded: Product) -> Product:
    """Return the product with the devices in the file of driver and plugin."""
    devices = [
        {
            "name": f"gpu-{number}",
            "attributes": {"uuid": {"string": card["uuid"]}},
            "capacity": {"memory": {"value": f"{card['totalMb']}Mi"}},
            **({"allowMultipleAllocations": True} if card["uuid"] == LARGE else {}),
        }
        for number, card in enumerate(CARDS)
    ]
    carded.cluster.layout.devices(FIRST).write_text(json.dumps(devices))
    return carded


def a_model(product: Product, name: str, megabytes: int) -> Json:
    """Apply a Model that needs so much memory of a card; return its placement once it answers."""
    gpu = {"vendor": "nvidia", "vramEstimateMB": megabytes}
    product.model(name, gpu=gpu, serverless={"enabled": False})
    product.ready(name)
    placement: Json = product.cluster.object("mdl", name)["status"]["placement"]
    return placement


def environment(product: Product, name: str) -> str:
    """Return the devices that the engine of a Model sees."""
    script = "import os; print(os.environ.get('NVIDIA_VISIBLE_DEVICES', ''))"
    return product.kubectl("exec", f"{name}-0", "--", "python", "-c", script).strip()


def node(product: Product) -> Json:
    """Return the Node."""
    return product.cluster.object("node", FIRST.name)


def is_refused(cluster: Cluster, name: str, words: str) -> None:
    """Wait until the scheduler has refused a Pod with these words; its first ones may be that it has not seen the claim yet."""

    def messages() -> list[str]:
        conditions = cluster.object("pod", name)["status"].get("conditions", ())
        return [c.get("message", "") for c in conditions if c.get("reason") == "Unschedulable"]

    until(lambda: any(words in message for message in messages()), SECONDS, f"{name} is refused: {words}")


def outsider(name: str, **spec: Any) -> Json:
    """Return a Pod of another user with the image of an engine, which it does not start."""
    container = {
        "name": "c",
        "image": f"{REGISTRY}/flexinfer/llama-cpu:{TAG}",
        "command": ["sleep", "300"],
        "resources": spec.pop("resources"),
    }
    spec |= {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def starts(cluster: Cluster, name: str) -> None:
    """Wait until a Pod runs."""
    until(lambda: cluster.object("pod", name)["status"]["phase"] == "Running", SECONDS, f"{name} runs")
    cluster.kubectl("delete", "pod", name, "--force", "--grace-period=0")


# --- a RuntimeClass


@pytest.fixture(scope="module")
def by_runtime(carded: Product) -> Iterator[Product]:
    """Return the product with the RuntimeClass in its settings.

    A node that had a device plugin once offers 0 of its resource until its Node object is created again.
    """
    assert RESOURCE not in node(carded)["status"]["allocatable"], (
        "the node had a device plugin: make node-down"
    )
    with bound_by_runtime_class(carded.cluster):
        yield carded


def test_the_node_says_which_runtime_classes_it_can_run(by_runtime: Product) -> None:
    """So a class that it cannot run is never chosen."""
    handlers = [handler.get("name") for handler in node(by_runtime)["status"]["runtimeHandlers"]]
    assert RUNTIME_CLASS in handlers


def test_two_engines_see_one_card_by_their_runtime_class(by_runtime: Product) -> None:
    """The variable has the uuid, and the RuntimeClass is the Pod's."""
    for name in ("seen", "beside"):
        placement = a_model(by_runtime, name, 9000)
        assert (placement["binding"], placement["runtimeClassName"]) == ("Visible", RUNTIME_CLASS)
        assert placement["shared"]
        assert by_runtime.engine(name)["spec"]["runtimeClassName"] == RUNTIME_CLASS
        assert environment(by_runtime, name) == LARGE
    by_runtime.delete("seen", "beside")


def test_the_kubelet_reads_the_cause_that_an_engine_of_vllm_writes(
    by_runtime: Product, tmp_path: Path
) -> None:
    """With the Pod of the launcher, as its user, by the logging configuration of the backend; the log's end has no cause (ADR 0034)."""
    vllm.push(tmp_path)
    gpu = {"vendor": "nvidia", "vramEstimateMB": 9000}
    by_runtime.model("worded", backend="vllm", image=vllm.IMAGE, gpu=gpu)
    by_runtime.until("worded", "Ready", "BackOff", SECONDS, vllm.CAUSE)
    pod = by_runtime.engine("worded")
    written = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"]
    log = by_runtime.kubectl("logs", "worded-0", "--previous").splitlines()
    by_runtime.delete("worded")
    assert pod["spec"]["securityContext"]["runAsUser"] == UNPRIVILEGED
    assert (len(written), written.rstrip().endswith(vllm.CAUSE)) == (4096, True)
    assert vllm.CAUSE in "\n".join(log)
    assert vllm.CAUSE not in "\n".join(log[-80:])


# --- DRA


@pytest.fixture(scope="module")
def by_dra(files: Product) -> Iterator[Product]:
    """Return the product on a node with a DRA driver."""
    cluster = files.cluster
    expression = f'device.driver == "{DRIVER}"'
    spec = {"selectors": [{"cel": {"expression": expression}}]}
    apply(
        cluster,
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": DRIVER},
            "spec": spec,
        },
    )
    cluster.start(parts.dra_driver(cluster.layout, FIRST))
    until(lambda: cluster.object("resourceslices")["items"], SECONDS, "the driver has published its slice")
    yield files
    without_driver(files)


def without_driver(product: Product) -> None:
    """Remove the DRA driver, and the Models that have devices by it."""
    product.delete("alone", "first", "second")
    processes.stop(product.cluster.layout, "dra_driver")
    product.kubectl("delete", "resourceslices", "--all")  # kubelet deletes them too, half a minute later
    product.kubectl("delete", "deviceclass", DRIVER, "--ignore-not-found")


def a_claim(name: str, uuid: str) -> tuple[Json, Json]:
    """Return a claim for a card, and a Pod of another user that has it."""
    selector = {"cel": {"expression": f'device.attributes["{DRIVER}"].?uuid.orValue("") == "{uuid}"'}}
    exactly = {"deviceClassName": DRIVER, "selectors": [selector]}
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }
    claims = [{"name": "gpu", "resourceClaimName": name}]
    return claim, outsider(name, resourceClaims=claims, resources={"claims": [{"name": "gpu"}]})


def test_an_engine_gets_the_very_card_of_its_placement_by_a_claim(by_dra: Product) -> None:
    """What the driver was given is in the engine's environment."""
    placement = a_model(by_dra, "alone", 5000)
    assert (placement["binding"], placement["driver"]) == ("DRA", DRIVER)
    assert [device["uuid"] for device in placement["devices"]] == [SMALL]
    assert environment(by_dra, "alone") == SMALL
    assert "Paris" in by_dra.ask("alone")


def test_a_second_pod_waits_for_the_card_until_the_engine_has_ended(by_dra: Product) -> None:
    """The scheduler keeps it away; the claim of the engine is gone with its Pod."""
    cluster = by_dra.cluster
    apply(cluster, *a_claim("waits", SMALL))
    is_refused(cluster, "waits", "cannot allocate all claims")
    by_dra.delete("alone")
    starts(cluster, "waits")
    cluster.kubectl("delete", "resourceclaim", "waits")
    until(lambda: not cluster.object("resourceclaims")["items"], SECONDS, "no claim is left")


def test_two_engines_share_a_card_by_claims_for_their_parts_of_its_memory(by_dra: Product) -> None:
    """The driver tells each claim its part, and the scheduler has counted both."""
    for name in ("first", "second"):
        assert a_model(by_dra, name, 10000)["shared"]
        assert environment(by_dra, name) == LARGE
    claims = by_dra.cluster.object("resourceclaims")["items"]
    results = [claim["status"]["allocation"]["devices"]["results"][0] for claim in claims]
    assert [result["consumedCapacity"]["memory"] for result in results] == ["10000Mi", "10000Mi"]


# --- a device plugin


def forget_plugins(cluster: Cluster) -> None:
    """Let kubelet start as one that never had a device plugin.

    It writes 0 for the resource of one that has ended for five minutes, and again after each restart
    (endpointStopGracePeriod of pkg/kubelet/cm/devicemanager), over what another test says that the node has.
    """
    checkpoint = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
    processes.stop(cluster.layout, "kubelet")
    subprocess.run((*view.command(cluster.layout, FIRST), "rm", "-f", checkpoint), check=True)
    cluster.start(parts.kubelet(cluster.layout, FIRST, cluster.programs))
    cluster.wait_for_node(FIRST)


@pytest.fixture(scope="module")
def by_plugin(files: Product) -> Iterator[Product]:
    """Return the product on a node with a device plugin, and no DRA driver any more."""
    without_driver(files)
    cluster = files.cluster
    cluster.start(parts.device_plugin(cluster.layout, FIRST))
    until(
        lambda: node(files)["status"]["allocatable"].get(RESOURCE) == "2", SECONDS, "the plugin is registered"
    )
    yield files
    files.delete("plugged")
    processes.stop(cluster.layout, "device_plugin")
    forget_plugins(cluster)


def test_an_engine_gets_a_card_of_the_device_plugin_and_the_placement_names_it(by_plugin: Product) -> None:
    """The plugin picks; the placement follows what is in the Pod's status."""
    assert a_model(by_plugin, "plugged", 5000)["binding"] == "DevicePlugin"
    card = environment(by_plugin, "plugged")
    assert card in (LARGE, SMALL)

    def placed() -> list[str]:
        status = by_plugin.cluster.object("mdl", "plugged")["status"]
        return [device["uuid"] for device in status["placement"]["devices"]]

    until(lambda: placed() == [card], SECONDS, f"the placement names {card}")


def test_more_pods_than_devices_wait(by_plugin: Product) -> None:
    """One has the other card, and one waits for the engine's."""
    cluster, amounts = by_plugin.cluster, {"limits": {RESOURCE: "1"}}
    apply(cluster, outsider("other", resources=amounts))
    until(lambda: cluster.object("pod", "other")["status"]["phase"] == "Running", SECONDS, "it runs")
    apply(cluster, outsider("more", resources=amounts))
    is_refused(cluster, "more", f"Insufficient {RESOURCE}")
    by_plugin.delete("plugged")
    starts(cluster, "more")
    cluster.kubectl("delete", "pod", "other", "--force", "--grace-period=0")
