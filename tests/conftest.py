"""Options, fixtures, distribution over workers and summary lines of the whole test run."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.distribution import arrange, scheduler
from tests.instance import Running, instance

APIS = ("local", "real")

settings.register_profile(
    "fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("fixed"), derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("FLEXINFER_EXAMPLES", "fixed"))
"""Property tests draw the same examples on each machine, and none is too slow, so that a failure is due to a change; FLEXINFER_EXAMPLES=random draws new ones."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--api`: conformance and end-to-end tests run against the local API or a real control plane."""
    parser.addoption("--api", choices=APIS, default="local", help="the Kubernetes API to test against")


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> str:
    """The Kubernetes API that this run tests, `local` or `real`."""
    return str(request.config.getoption("--api"))


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One real control plane for all tests of a worker, which use separate namespaces.

    Its API server writes an audit log.
    """
    with instance(tmp_path_factory.mktemp("plane"), "--api", "plane", "--audit") as running:
        yield running


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run each file on one worker, in the order of tests/distribution.py."""
    return scheduler(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a worker, put the tests into the order in which they are distributed."""
    arrange(config, items)


def pytest_collection_finish() -> None:
    """Let the collector leave aside what lives as long as the run: the thousands of tests that were collected."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write which simulated histories passed, and all measured values."""
    ranges = [
        value
        for report in terminalreporter.stats.get("passed", ())
        for name, value in report.user_properties
        if name == "seeds"
    ]
    if ranges:
        count = sum(last - first + 1 for first, last in ranges)
        first, last = min(ranges)[0], max(ranges)[1]
        terminalreporter.write_line(f"{count:,} simulated seeds passed ({first}-{last})")
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "measured":
                terminalreporter.write_line(value)
