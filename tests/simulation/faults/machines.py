"""Machines: nodes that fall silent and return, or are lost."""

import asyncio
import random

from tests.simulation.faults.base import Fault
from tests.simulation.machines import NODES
from tests.simulation.simulation import Simulation


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


FAULTS = (Fault("a silent node", 0.4, silence), Fault("a lost node", 0.2, lose))
