"""Options, fixtures, distribution over workers and summary lines of the whole test run."""

import gc
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.instance import Running, instance

APIS = ("local", "real")
_SPREAD = ("tests/integration/prefetcher/test_download.py", "tests/simulation/test_histories.py")
"""The files that compute longest; their tests share nothing, and are distributed over all workers."""
_WAITING = ("tests/e2e/", "tests/integration/", "tests/conformance/", "tests/protocol/")
"""Tests that mostly wait, for processes and their timers; all others compute."""
_COMPUTING_FILES = 3
"""How many computing files are run for each that waits, so that neither is left over at the end."""

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
    """Run each file on one worker, except those of _SPREAD, which are distributed over all workers."""
    from xdist.scheduler import (  # type: ignore[import-untyped] # noqa: PLC0415 -- xdist is optional
        LoadFileScheduling,
    )

    class Spread(LoadFileScheduling):  # type: ignore[misc] # xdist has no type hints
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # `pytest_collection_modifyitems` has ordered them
    return Spread(config, log)


def _unit(nodeid: str) -> str:
    """Return what runs on one worker: a file, or one test of those that are spread."""
    return nodeid if nodeid.startswith(_SPREAD) else nodeid.partition("::")[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a worker, let files that wait and files that compute take turns, what is spread last."""
    if not hasattr(config, "workerinput"):
        return
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        units.setdefault(_unit(item.nodeid), []).append(item)
    items[:] = [item for unit in _in_turn(list(units)) for item in units[unit]]


def pytest_collection_finish() -> None:
    """Let the collector leave aside what lives as long as the run: the thousands of tests that were collected."""
    gc.collect()
    gc.freeze()


def _in_turn(units: Sequence[str]) -> Iterator[str]:
    """Yield the units in the order in which workers take them; the end-to-end tests, which are the longest, early."""
    waiting = [unit for unit in units if unit.startswith(_WAITING) and not unit.startswith(_SPREAD)]
    waiting.sort(key=lambda unit: not unit.startswith("tests/e2e/"))
    computing = [unit for unit in units if unit.startswith(_SPREAD) or not unit.startswith(_WAITING)]
    computing.sort(key=lambda unit: unit.startswith(_SPREAD))
    for number in range(max(len(waiting), -(-len(computing) // _COMPUTING_FILES))):
        yield from waiting[number : number + 1]
        yield from computing[number * _COMPUTING_FILES : (number + 1) * _COMPUTING_FILES]


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
