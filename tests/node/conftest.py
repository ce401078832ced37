"""One cluster for all tests of this folder, with the product on it as its manifests ship it."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.node import images, network
from tests.node.cluster import Cluster
from tests.node.layout import FIRST, layout
from tests.node.product import IMAGES, TAG, Product


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return the cluster of `make node-up`, or one that goes when the tests are done. This process is in its network from here on."""
    found = Cluster(layout(), print)
    ours = not found.answers() if network.exists(FIRST) else True
    with contextlib.ExitStack() as stack:
        if ours:
            stack.callback(found.down)
        found.up()
        stack.enter_context(network.inside(FIRST))
        yield found


@pytest.fixture(scope="session")
def product(cluster: Cluster) -> Iterator[Product]:
    """Return the product: images built and pushed, manifests applied, everything ready, a small model on a claim."""
    images.push_product(IMAGES, TAG)
    running = Product(cluster)
    running.apply()
    yield running
    running.remove_models()
