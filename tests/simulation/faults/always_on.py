"""Models that always run: some from the beginning, beside others in a group too, and some that become so or no longer are."""

import asyncio
import random

from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Options, Patch
from tests.simulation.faults.base import Climate
from tests.simulation.simulation import Simulation
from tests.simulation.users import NAMES

_EARLIEST, _LATEST = 2.0, 24.0


def many(simulation: Simulation, chance: random.Random) -> None:
    """Let Models be created that always run, and change whether some do."""
    simulation.always_on = chance.choice([0.2, 0.5, 0.8])
    for _ in range(chance.randint(0, 3)):
        at, name, enabled = chance.uniform(_EARLIEST, _LATEST), chance.choice(NAMES), chance.random() < 0.5
        asyncio.get_running_loop().call_later(at, _change, simulation, name, enabled)


def _change(simulation: Simulation, name: str, enabled: bool) -> None:  # noqa: FBT001 -- of call_later
    spec = {"serverless": {"enabled": enabled}}
    try:
        kind = simulation.named(GROUP, VERSION, PLURAL)
        patch = Patch("merge", {"spec": spec})
        simulation.store.patch(kind, "default", name, patch, Options(manager="kubectl"))
    except ApiError:
        return
    simulation.record(f"change {name} {spec}")


CLIMATES = (Climate("Models that always run", 0.25, many),)
