"""Sources that change while their Models serve, and Jobs that take long: the weights of a newer spec are not there at once."""

import asyncio
import random

from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Options, Patch
from tests.simulation.faults.base import Climate
from tests.simulation.simulation import Simulation
from tests.simulation.users import NAMES

_EARLIEST, _LATEST = 2.0, 24.0
_SOURCES = ("pvc://models/x.gguf", "pvc://models/y.gguf")


def edits(simulation: Simulation, chance: random.Random) -> None:
    """Let Models get another source a few times; the Jobs of then take up to some seconds."""
    for _ in range(chance.randint(2, 6)):
        at, name = chance.uniform(_EARLIEST, _LATEST), chance.choice(NAMES)
        source, seconds = chance.choice(_SOURCES), chance.choice([0.0, 3.0, 9.0])
        asyncio.get_running_loop().call_later(at, _change, simulation, name, source, seconds)


def _change(simulation: Simulation, name: str, source: str, seconds: float) -> None:
    kind, patch = simulation.named(GROUP, VERSION, PLURAL), Patch("merge", {"spec": {"source": source}})
    try:
        simulation.store.patch(kind, "default", name, patch, Options(manager="kubectl"))
    except ApiError:
        return
    machines = simulation.machines
    machines.silent_jobs_until = max(machines.silent_jobs_until, simulation.clock() + seconds)
    simulation.record(f"change {name} to {source}; Jobs take {seconds:.0f} s")


CLIMATES = (Climate("sources that change", 0.25, edits),)
