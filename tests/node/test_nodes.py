"""A second node: Models live where they are sent, a node that falls silent is told, one that runs out of disk evicts and recovers."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.node import network
from tests.node.layout import FIRST, SECOND
from tests.node.product import SYSTEM, Product

NAME = "guest"
ROOM = 6 << 30
"""How many bytes may be written before the second node counts as short of disk."""


@pytest.fixture(scope="module")
def guest(product: Product) -> Iterator[Product]:
    """Return the product on two nodes, with a Model that answers on the second, from weights of a claim there."""
    cluster = product.cluster
    folder = cluster.layout.claims(SECOND) / "default" / "guests"
    folder.mkdir(parents=True)
    shutil.copy(cluster.layout.claims(FIRST) / "default/models/smollm2.gguf", folder)
    room = shutil.disk_usage(cluster.layout.root).free - ROOM
    cluster.add(SECOND, evict_below=f"{room >> 20}Mi")
    try:
        product.kubectl("rollout", "status", "daemonset", "-n", SYSTEM, "--timeout=120s")
        product.claim("guests")
        there = {"kubernetes.io/hostname": SECOND.name}
        product.model(
            NAME, source="pvc://guests/smollm2.gguf", nodeSelector=there, serverless={"enabled": False}
        )
        product.ready(NAME)
        yield product
        product.delete(NAME)
    finally:
        cluster.remove(SECOND)


def test_a_model_lives_on_the_node_that_it_is_sent_to(guest: Product) -> None:
    """The door on the first node asks the engine on the second."""
    assert guest.engine(NAME)["spec"]["nodeName"] == SECOND.name
    assert "Paris" in guest.ask(NAME)


def test_a_node_that_falls_silent_is_said_and_its_model_answers_when_it_is_back(guest: Product) -> None:
    """Ready=Unknown/NodeUnreachable while the cable is out; the same engine answers afterwards."""
    before = guest.engine(NAME)["metadata"]["uid"]
    network.part(SECOND)
    try:
        guest.until(NAME, "Ready", "NodeUnreachable", 40, SECOND.name)
        assert guest.condition(NAME)["status"] == "Unknown"
    finally:
        network.rejoin(SECOND)
    guest.ready(NAME)
    assert guest.engine(NAME)["metadata"]["uid"] == before
    assert "Paris" in guest.ask(NAME)


def test_a_node_short_of_disk_evicts_and_its_model_answers_when_there_is_room(guest: Product) -> None:
    """An event says why its Pod was ended, Placed what keeps it from coming back; nothing is left to be done by hand."""
    ballast = guest.cluster.layout.root / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * ROOM)
    try:
        guest.until(NAME, "Placed", "NoNodeFits", 120, "disk-pressure")
        assert "low on resource" in guest.kubectl("describe", "mdl", NAME)
    finally:
        ballast.unlink()
    guest.ready(NAME)
    assert "Paris" in guest.ask(NAME)
