"""One cluster for all tests of this folder, with the product on it as its manifests ship it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node import images, network
from tests.node import tilt as tilts
from tests.node.__main__ import tell
from tests.node.cluster import Cluster
from tests.node.layout import FIRST, layout
from tests.node.product import IMAGES, TAG, Product


@pytest.fixture(scope="session")
def tilt() -> Path:
    """Return Tilt, built if need be."""
    return tilts.locate(os.environ, tell)


@pytest.fixture(scope="session")
def cluster(tilt: Path) -> Iterator[Cluster]:
    """Return the cluster of `make node-up`, or one that goes when the tests are done.

    This process is in its network from here on, out of which nothing can be fetched: what is built is built before.
    """
    found = Cluster(layout(), tell)
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


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Return what notes a measurement for the last lines of the run."""
    return lambda what, seconds: record_property("measured", f"{what}: {seconds:.2f} s")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was measured."""
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "measured" and report.when == "teardown":
                terminalreporter.write_line(str(value))
