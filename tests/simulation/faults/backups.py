"""An API server that is restored from a backup: all objects go back, and what runs on the machines follows."""

import asyncio
import random

from tests.simulation.backup import Backup
from tests.simulation.faults import pods
from tests.simulation.faults.base import Climate
from tests.simulation.simulation import Simulation

_EARLIEST, _LATEST = 4.0, 24.0
_OLDEST = 12.0
_FINALIZED_SECONDS, _CLAIM_SECONDS = 5.0, 3.0


def restore(simulation: Simulation, chance: random.Random) -> None:
    """Back the API server up, and restore it some seconds later; it is away for a moment then."""
    at, age, away = (
        chance.uniform(_EARLIEST, _LATEST),
        chance.uniform(0.5, _OLDEST),
        chance.choice([0.5, 3.0]),
    )
    loop = asyncio.get_running_loop()
    loop.call_later(max(1.0, at - age), _back_up, simulation, at, away)


def _back_up(simulation: Simulation, at: float, away: float) -> None:
    asyncio.get_running_loop().call_at(at, _restore, simulation, simulation.store.back_up(), away)


def _restore(simulation: Simulation, backup: Backup, away: float) -> None:
    simulation.record(
        f"the API server is restored from revision {simulation.store.revision} to {backup.revision}"
    )
    simulation.restore(backup)
    simulation.api.away_until = max(simulation.api.away_until, simulation.clock() + away)
    loop = asyncio.get_running_loop()
    loop.call_later(_CLAIM_SECONDS, simulation.create_claim)
    loop.call_later(_FINALIZED_SECONDS, pods.release, simulation)


CLIMATES = (Climate("an API server restored from a backup", 0.12, restore),)
