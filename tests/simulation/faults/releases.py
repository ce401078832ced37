"""Releases of FlexInfer that are rolled out while Models serve, and render another Pod template; one is rolled back."""

import asyncio
import random

import msgspec

from tests.simulation.faults.base import Climate
from tests.simulation.simulation import Simulation

_EARLIEST, _LATEST = 3.0, 24.0


def roll_out(simulation: Simulation, chance: random.Random) -> None:
    """Roll a release out, and perhaps back again."""
    present = simulation.settings
    releases = (msgspec.structs.replace(present, pull_secrets="mirror"), present)
    times = sorted(chance.uniform(_EARLIEST, _LATEST) for _ in range(chance.choice([1, 2])))
    for at, settings in zip(times, releases, strict=False):
        asyncio.get_running_loop().call_later(at, simulation.upgrade, settings)


CLIMATES = (Climate("releases", 0.2, roll_out),)
