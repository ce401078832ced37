"""Machines: nodes that fall silent and return, are lost, or are marked out of service."""

import asyncio
import random

from tests.simulation.faults.base import Climate, Fault
from tests.simulation.machines import NODES
from tests.simulation.simulation import Simulation

_EARLIEST, _LATEST = 3.0, 22.0


def silence(simulation: Simulation, chance: random.Random) -> None:
    """Let a node fall silent for some seconds; its engines continue."""
    node, seconds = chance.choice(NODES), chance.choice([2.0, 10.0, 25.0])
    simulation.record(f"node {node} is silent for {seconds:.0f} s")
    simulation.machines.silence(node)
    asyncio.get_running_loop().call_later(seconds, simulation.machines.restore, node)


def lose(simulation: Simulation, chance: random.Random) -> None:
    """Lose a machine; it is registered again later."""
    node, seconds = chance.choice(NODES), chance.choice([8.0, 15.0])
    simulation.record(f"node {node} is lost for {seconds:.0f} s")
    simulation.machines.lose(node)
    asyncio.get_running_loop().call_later(seconds, simulation.machines.restore, node)


def end(simulation: Simulation, chance: random.Random) -> None:
    """Let machines end whose Nodes are marked out of service, once or twice."""
    for _ in range(chance.choice([1, 2])):
        at, node, seconds = (
            chance.uniform(_EARLIEST, _LATEST),
            chance.choice(NODES),
            chance.choice([8.0, 15.0]),
        )
        asyncio.get_running_loop().call_later(at, _mark, simulation, node, seconds)


def _mark(simulation: Simulation, node: str, seconds: float) -> None:
    simulation.record(f"node {node} is out of service for {seconds:.0f} s")
    simulation.machines.mark_out_of_service(node)
    asyncio.get_running_loop().call_later(seconds, simulation.machines.restore, node)


OWN = (Climate("nodes out of service", 0.15, end),)
FAULTS = (Fault("a silent node", 0.4, silence), Fault("a lost node", 0.2, lose))
