"""Histories of hours and days: what is repeated without success is repeated without end, and rarely."""

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from localkube.apiserver.requests import DeleteOptions
from tests.simulation.deadlines import SETTINGS
from tests.simulation.loop import run
from tests.simulation.simulation import Simulation
from tests.simulation.stories import create, said
from tests.simulation.users import Users

HOURS, DAYS = 3.0, 2.0
WRITES_AN_HOUR = 10
ATTEMPT_SECONDS = 60.0
"""At most this often a start is tried that fails again and again."""
WRITES_AN_ATTEMPT = 12
PATIENT = msgspec.structs.replace(SETTINGS, relist_seconds=600, silence_seconds=700)
COMPONENTS = ("watcher", "placer", "prefetcher")
"""Those that have to do with a PVC: hours of all of them would take minutes."""


@pytest.mark.slow
def test_a_pvc_that_is_missing_for_days_is_used_when_it_is_there() -> None:
    """No component fails, hardly anything is written, and the Model is Cached within a minute of its PVC."""

    async def main() -> tuple[list[str], int, str]:
        simulation = Simulation(1, settings=PATIENT)
        simulation.start(COMPONENTS)
        claims = simulation.named("", "v1", "persistentvolumeclaims")
        simulation.store.delete(claims, "default", "models", DeleteOptions())
        Users(simulation).create("a")
        await asyncio.sleep(120)
        written: Counter[str] = Counter()
        simulation.store.observe(lambda change: written.update([change.group_resource[1]]))
        await asyncio.sleep(DAYS * 24 * 3600)
        told, writes = _cached(simulation), written["models"]
        simulation.create_claim()
        await asyncio.sleep(60)
        return simulation.checker.problems, writes, f"{told} {_cached(simulation)}"

    problems, writes, told = run(main())
    assert not problems
    assert told == f"{Reason.CLAIM_NOT_FOUND} {Reason.CACHED}"
    assert writes <= DAYS * 24 * WRITES_AN_HOUR


def _cached(simulation: Simulation) -> Any:
    condition = simulation.models()["default/a"].condition(conditions.CACHED)
    return condition.reason if condition is not None else ""


@pytest.mark.slow
def test_a_model_that_always_runs_is_tried_for_hours_and_starts_once_it_can() -> None:
    """Its engine never answers. All components run: none fails, each attempt costs a few writes, and a Model that serves is not written about."""

    async def main() -> tuple[list[str], Counter[str], str]:
        simulation = Simulation(1, settings=PATIENT)
        simulation.start()
        create(simulation, "fails", serverless={"enabled": False})
        create(simulation, "serves", serverless={"enabled": False})
        simulation.machines.behaviour.never_ready = frozenset({"default/fails"})
        await said(simulation, "serves", conditions.READY, Reason.READY)
        written: Counter[str] = Counter()
        simulation.store.observe(lambda change: written.update([change.key[1]]))
        await asyncio.sleep(HOURS * 3600)
        counted = Counter(written)
        simulation.machines.behaviour.never_ready = frozenset()
        await asyncio.sleep(3 * ATTEMPT_SECONDS)
        ready = simulation.models()["default/fails"].condition(conditions.READY)
        return simulation.checker.problems, counted, ready.reason if ready is not None else ""

    problems, written, reason = run(main())
    assert not problems
    assert reason == Reason.READY
    assert written["serves"] == 0
    assert HOURS * 10 < written["fails"] <= HOURS * 3600 / ATTEMPT_SECONDS * WRITES_AN_ATTEMPT
