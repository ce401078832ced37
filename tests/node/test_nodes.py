"""A second node: node selectors, an unreachable node, and eviction and recovery under disk pressure."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.node import network
from tests.node.layout import FIRST, SECOND
from tests.node.product import SYSTEM, Product
from tests.patience import patient

NAME = "guest"
SPARE_BYTES = 6 << 30
"""How many bytes may be written before the second node has disk pressure."""


@pytest.fixture(scope="module")
def guest(product: Product) -> Iterator[Product]:
    """Return the product on two nodes, with a Model that is ready on the second with weights on a PVC there."""
    cluster = product.cluster
    folder = cluster.layout.claims(SECOND) / "default" / "guests"
    folder.mkdir(parents=True)
    shutil.copy(cluster.layout.claims(FIRST) / "default/models/smollm2.gguf", folder)
    limit = shutil.disk_usage(cluster.layout.root).free - SPARE_BYTES
    cluster.add(SECOND, evict_below=f"{limit >> 20}Mi")
    try:
        product.kubectl("rollout", "status", "daemonset", "-n", SYSTEM, f"--timeout={patient(120):.0f}s")
        product.claim("guests")
        selector = {"kubernetes.io/hostname": SECOND.name}
        product.model(
            NAME, source="pvc://guests/smollm2.gguf", nodeSelector=selector, serverless={"enabled": False}
        )
        product.ready(NAME)
        yield product
        product.delete(NAME)
    finally:
        cluster.remove(SECOND)


def test_a_model_runs_on_the_node_of_its_selector(guest: Product) -> None:
    """The proxy on the first node forwards to the engine on the second."""
    assert guest.engine(NAME)["spec"]["nodeName"] == SECOND.name
    assert "Paris" in guest.ask(NAME)


def test_an_unreachable_node_is_reported_and_its_model_is_ready_when_it_is_back(guest: Product) -> None:
    """Ready is Unknown/NodeUnreachable while the node is disconnected; the same engine serves afterwards."""
    before = guest.engine(NAME)["metadata"]["uid"]
    network.disconnect(SECOND)
    try:
        guest.until(NAME, "Ready", "NodeUnreachable", 40, SECOND.name)
        assert guest.condition(NAME)["status"] == "Unknown"
    finally:
        network.reconnect(SECOND)
    guest.ready(NAME)
    assert guest.engine(NAME)["metadata"]["uid"] == before
    assert "Paris" in guest.ask(NAME)


def test_a_node_with_disk_pressure_evicts_and_its_model_recovers(guest: Product) -> None:
    """An Event has the cause of the eviction, Placed the reason why it cannot be placed.

    Recovery needs no manual step.
    """
    ballast = guest.cluster.layout.root / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * SPARE_BYTES)
    try:
        guest.until(NAME, "Placed", "NoNodeFits", 120, "disk-pressure")
        assert "low on resource" in guest.kubectl("describe", "mdl", NAME)
    finally:
        ballast.unlink()
    guest.ready(NAME)
    assert "Paris" in guest.ask(NAME)
