"""Telemetry: an agent that is silent or says what is not so, and memory that another process uses."""

import random
from collections.abc import Callable

from tests.simulation.faults.base import Climate, Fault
from tests.simulation.machines import NODES
from tests.simulation.simulation import Simulation


def _lie(field: str) -> Callable[[Simulation, random.Random], None]:
    """Return a fault that makes an agent lie for some seconds."""

    def act(simulation: Simulation, chance: random.Random) -> None:
        node, seconds = chance.choice(NODES), chance.choice([3.0, 12.0, 40.0])
        simulation.record(f"the agent of {node} is {field.removesuffix('_until')} for {seconds:.0f} s")
        setattr(simulation.machines.agents[node].lies, field, simulation.clock() + seconds)

    return act


def foreign(simulation: Simulation, chance: random.Random) -> None:
    """Let another process use memory of every device from the beginning."""
    for agent in simulation.machines.agents.values():
        agent.lies.foreign_mb = chance.choice([300, 600])


FAULTS = (
    Fault("a silent agent", 0.3, _lie("silent_until"), shows="telemetry that ends"),
    Fault("an old sample", 0.3, _lie("old_until"), shows="old samples"),
    Fault("no process list", 0.3, _lie("without_processes_until"), shows="no process list"),
    Fault("a device missing", 0.2, _lie("missing_until"), shows="a device missing"),
    Fault("an unhealthy device", 0.2, _lie("unhealthy_until"), shows="an unhealthy device"),
)
CLIMATES = (Climate("a foreign process", 0.15, foreign, shows="foreign memory"),)
