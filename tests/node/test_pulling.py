"""An image that cannot be pulled is what a component's Pod says, also where the Secrets of the components do not exist either."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.layout import REGISTRY
from tests.node.product import SYSTEM, Product
from tests.node.waiting import until
from tests.patience import patient

NAMESPACE = "pulling"
SECRET = "flexinfer-nats-proxy"
SECONDS = 90.0
NOT_PULLED = ("ErrImagePull", "ImagePullBackOff")


@pytest.fixture
def outside(product: Product) -> Iterator[Product]:
    """Return the product, and another namespace, where nothing of it is."""
    product.kubectl("create", "namespace", NAMESPACE)
    yield product
    product.kubectl("delete", "namespace", NAMESPACE, f"--timeout={patient(90):.0f}s")


def a_pod(product: Product, name: str, image: str) -> None:
    """Create a Pod of the proxy's template, in the namespace without Secrets."""
    template = product.cluster.object("deployment", "flexinfer-proxy", "-n", SYSTEM)["spec"]["template"]
    spec = template["spec"]
    spec.pop("serviceAccountName", None)
    spec.pop("serviceAccount", None)
    container = spec["containers"][0]
    container |= {"image": image, "envFrom": [], "command": ["python", "-c", CHECK], "args": []}
    for probe in ("livenessProbe", "readinessProbe", "lifecycle"):
        container.pop(probe, None)
    meta = {"name": name, "namespace": NAMESPACE}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec | {"restartPolicy": "Always"}}
    product.kubectl("apply", "-f", "-", stdin=json.dumps(body))


CHECK = "import pathlib; print(pathlib.Path('/etc/flexinfer/nats/password').read_text())"


def state(product: Product, name: str) -> tuple[str, str]:
    """Return what the container of a Pod waits for, or how it ended, and the message."""
    status: dict[str, Any] = product.cluster.object("pod", name, "-n", NAMESPACE)["status"]
    for container in status.get("containerStatuses", ()):
        for part in (container["state"], container.get("lastState", {})):
            for one in part.values():
                if one.get("reason", "ContainerCreating") != "ContainerCreating":
                    return str(one["reason"]), str(one.get("message", ""))
    return "", ""


def test_an_image_that_cannot_be_pulled_is_named_before_a_missing_secret(outside: Product) -> None:
    """`kubectl get pods` shows it for each component, and `describe` has the registry's words."""
    image = f"{REGISTRY}/flexinfer/missing:1"
    a_pod(outside, "unpullable", image)
    until(lambda: state(outside, "unpullable")[0] in NOT_PULLED, SECONDS, "the pull fails")
    assert image in state(outside, "unpullable")[1]
    events = outside.kubectl("get", "events", "-n", NAMESPACE, "-o", "jsonpath={.items[*].message}")
    assert SECRET not in events


def test_a_container_waits_for_its_secret_and_then_has_its_files(outside: Product) -> None:
    """The volume was mounted empty; what the Secret holds is in it once the container runs."""
    a_pod(outside, "waiting", f"{REGISTRY}/flexinfer/services:dev")
    until(
        lambda: state(outside, "waiting")[0] == "CreateContainerConfigError",
        SECONDS,
        "the container waits for the Secret",
    )
    assert SECRET in state(outside, "waiting")[1]
    literals = ("--from-literal=password=hush", "--from-literal=ca.crt=authority")
    outside.kubectl("create", "secret", "generic", SECRET, "-n", NAMESPACE, *literals)
    until(lambda: "hush" in log(outside), SECONDS, "the container has read the password")


def log(product: Product) -> str:
    """Return the log of the container; empty while there is none."""
    statuses = product.cluster.object("pod", "waiting", "-n", NAMESPACE)["status"].get(
        "containerStatuses", ()
    )
    begun = any(status.get("containerID") for status in statuses)
    return product.kubectl("logs", "waiting", "-n", NAMESPACE) if begun else ""


def test_check_quotes_the_registry_and_finds_the_rest_in_order(outside: Product) -> None:
    """With the kubeconfig of an administrator, as a user runs it beside kubectl."""
    image = f"{REGISTRY}/flexinfer/missing:2"
    a_pod(outside, "unpullable", image)
    until(lambda: state(outside, "unpullable")[0] in NOT_PULLED, SECONDS, "the pull fails")
    environment = os.environ | {"KUBECONFIG": str(outside.cluster.layout.kubeconfig())}
    words = [str(Path(sys.executable).with_name("flexinfer")), "check", "-o", "json"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    found = {one["check"]: one for one in reversed(json.loads(done.stdout))}
    assert done.returncode == 1
    assert (found["images"]["status"], image in found["images"]["message"]) == ("missing", True)
    for check in ("crds", "rights", "components", "nats"):
        assert found[check]["status"] == "ok", found[check]
