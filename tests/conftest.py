"""Options, fixtures, distribution over workers and summary lines of the whole test run."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.instance import Running, instance

APIS = ("local", "real")
_SPREAD = "tests/simulation/test_histories.py"


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
    """Run each file on one worker, except the simulated histories, which are distributed over all workers."""
    from xdist.scheduler import (  # type: ignore[import-untyped] # noqa: PLC0415 -- xdist is optional
        LoadFileScheduling,
    )

    class Spread(LoadFileScheduling):  # type: ignore[misc] # xdist has no type hints
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(_SPREAD) else str(super()._split_scope(nodeid))

    return Spread(config, log) if config.getoption("dist") == "loadfile" else None


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
