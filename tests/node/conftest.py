"""One cluster for all tests of this folder, with FlexInfer deployed by its manifests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node import images
from tests.node import tilt as tilts
from tests.node.__main__ import report
from tests.node.cluster import Cluster, running_cluster
from tests.node.layout import layout
from tests.node.product import IMAGES, TAG, Product


@pytest.fixture(scope="session")
def tilt() -> Path:
    """Return the path of Tilt, built if it is not installed."""
    return tilts.locate(os.environ, report)


@pytest.fixture(scope="session")
def cluster(tilt: Path) -> Iterator[Cluster]:
    """Return the cluster; programs are built before, since nothing can be downloaded from its network."""
    with running_cluster(layout(), report) as running:
        yield running


@pytest.fixture(scope="session")
def product(cluster: Cluster) -> Iterator[Product]:
    """Return the product: images are built and pushed, all workloads are ready, a PVC has a small model."""
    images.push_product(IMAGES, TAG)
    running = Product(cluster)
    running.apply()
    yield running
    running.remove_models()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Return a function that records a measurement for the last lines of the run."""
    return lambda what, seconds: record_property("measured", f"{what}: {seconds:.2f} s")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print all measurements."""
    for result in terminalreporter.stats.get("passed", ()):
        for name, value in result.user_properties:
            if name == "measured" and result.when == "teardown":
                terminalreporter.write_line(str(value))
