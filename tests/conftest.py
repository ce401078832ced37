"""What the whole test run shares: which API it is about, how it is spread over workers, and what its last lines say."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.instance import Running, instance

WORLDS = ("local", "real")
_SPREAD = "tests/simulation/test_histories.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the Kubernetes API that conformance and end-to-end tests run against: our own, or a real control plane."""
    parser.addoption("--api", choices=WORLDS, default="local", help="the Kubernetes API to test against")


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> str:
    """Which Kubernetes API this run is about."""
    return str(request.config.getoption("--api"))


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One real control plane for all tests of a worker; they keep apart by namespaces. Its API server keeps an audit log."""
    with instance(tmp_path_factory.mktemp("plane"), "--api", "plane", "--audit") as running:
        yield running


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep each file on one worker, but for the simulated histories, which all workers share."""
    from xdist.scheduler import (  # type: ignore[import-untyped] # noqa: PLC0415 -- there may be no xdist
        LoadFileScheduling,
    )

    class Spread(LoadFileScheduling):  # type: ignore[misc] # xdist tells no types
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(_SPREAD) else str(super()._split_scope(nodeid))

    return Spread(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many simulated histories passed, and which, and what was measured."""
    told = [
        value
        for report in terminalreporter.stats.get("passed", ())
        for name, value in report.user_properties
        if name == "seeds"
    ]
    if told:
        count = sum(last - first + 1 for first, last in told)
        first, last = min(told)[0], max(told)[1]
        terminalreporter.write_line(f"{count:,} simulated seeds passed ({first}-{last})")
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "measured":
                terminalreporter.write_line(value)
