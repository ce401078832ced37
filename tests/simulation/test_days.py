"""Histories of hours: what is repeated without success is repeated without end, and rarely."""

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
from tests.simulation.users import Users

HOURS = 5.0
WRITES_AN_HOUR = 10
PATIENT = msgspec.structs.replace(SETTINGS, relist_seconds=600, silence_seconds=700)
COMPONENTS = ("watcher", "placer", "prefetcher")
"""Those that have to do with a PVC: hours of all of them would take minutes."""


@pytest.mark.slow
def test_a_pvc_that_is_missing_for_five_hours_is_used_when_it_is_there() -> None:
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
        await asyncio.sleep(HOURS * 3600)
        told, writes = _cached(simulation), written["models"]
        simulation.create_claim()
        await asyncio.sleep(60)
        return simulation.checker.problems, writes, f"{told} {_cached(simulation)}"

    problems, writes, told = run(main())
    assert not problems
    assert told == f"{Reason.CLAIM_NOT_FOUND} {Reason.CACHED}"
    assert writes <= HOURS * WRITES_AN_HOUR


def _cached(simulation: Simulation) -> Any:
    condition = simulation.models()["default/a"].condition(conditions.CACHED)
    return condition.reason if condition is not None else ""
