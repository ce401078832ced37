"""One cluster for all tests of this folder, with the product on it as its manifests ship it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node import images
from tests.node import tilt as tilts
from tests.node.__main__ import tell
from tests.node.cluster import Cluster, borrowed
from tests.node.layout import layout
from tests.node.product import IMAGES, TAG, Product


@pytest.fixture(scope="session")
def tilt() -> Path:
    """Return Tilt, built if need be."""
    return tilts.locate(os.environ, tell)


@pytest.fixture(scope="session")
def cluster(tilt: Path) -> Iterator[Cluster]:
    """Return the cluster; what is built is built before, as nothing can be fetched from within it."""
    with borrowed(layout(), tell) as found:
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
