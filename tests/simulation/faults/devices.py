"""Nodes with two devices, of which Models request one or both."""

import asyncio
import random

from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Options, Patch
from tests.simulation.faults.base import Climate
from tests.simulation.machines import NODES
from tests.simulation.simulation import Simulation

_EARLIEST, _LATEST = 3.0, 24.0
_DISPLAY_MB = 300
"""With it on one of them the devices are not alike: a Model on one device is placed on the other. The largest Model still fits beside it."""


def two(simulation: Simulation, chance: random.Random) -> None:
    """Give every node a second device, and let Models request one or two; some change their number while they serve, with as much memory on each."""
    machines = simulation.machines
    for node in NODES:
        machines.devices[node] = (f"GPU-{node}", f"GPU-{node}2")
    for _ in range(chance.choice([0, 4, 8])):
        asyncio.get_running_loop().call_later(
            chance.uniform(0.0, _LATEST), _display, simulation, random.Random(chance.random())
        )
    counts = chance.choice([[1, 2], [1, 1, 2], [1, 2, 2], [2]])
    machines.requested = lambda: chance.choice(counts)
    for _ in range(chance.choice([0, 0, 1, 2])):
        at = chance.uniform(_EARLIEST, _LATEST)
        asyncio.get_running_loop().call_later(at, _change, simulation, random.Random(chance.random()))


def _display(simulation: Simulation, chance: random.Random) -> None:
    """Let a display server use one device of each node, and no other from now on."""
    for node, devices in simulation.machines.devices.items():
        simulation.machines.agents[node].displays = {chance.choice(devices): _DISPLAY_MB}
        simulation.machines.sample(node)


def _change(simulation: Simulation, chance: random.Random) -> None:
    """Let a member request another number of devices."""
    members = [model for _, model in sorted(simulation.models().items()) if model.spec.group]
    if not members:
        return
    model = chance.choice(members)
    count, estimate = 3 - model.spec.devices, model.spec.gpu.vram_estimate_mb if model.spec.gpu else None
    each = (estimate or 0) // model.spec.devices
    spec = {"gpu": {"count": count, "vramEstimateMB": each * count or None}}
    try:
        kind, patch = simulation.named(GROUP, VERSION, PLURAL), Patch("merge", {"spec": spec})
        simulation.store.patch(kind, "default", model.metadata.name, patch, Options(manager="kubectl"))
    except ApiError:
        return
    simulation.record(f"change {model.metadata.name} {spec}")


CLIMATES = (Climate("nodes with two devices", 0.25, two),)
