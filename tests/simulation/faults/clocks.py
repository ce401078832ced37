"""Wall clocks: they step, and nothing may depend on them."""

import random

from tests.simulation.faults.base import Fault
from tests.simulation.simulation import Simulation


def step(simulation: Simulation, chance: random.Random) -> None:
    """Step the wall clock of every process."""
    simulation.clock_step += chance.choice([-7200.0, -30.0, 30.0, 7200.0])
    simulation.record(f"the wall clocks are {simulation.clock_step:.0f} s wrong")


FAULTS = (Fault("step the wall clock", 0.3, step),)
