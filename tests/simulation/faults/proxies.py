"""Proxies: a second one, one that dies, one that ends as at SIGTERM."""

import random

from tests.simulation.faults.base import Climate, Fault
from tests.simulation.simulation import PROXIES, Simulation


def kill(simulation: Simulation, chance: random.Random) -> None:
    """Kill a proxy."""
    member = simulation.members.get(chance.choice(PROXIES))
    if member is not None:
        simulation.lose_reports(0.0, member.name)
        simulation.kill(member)


def end(simulation: Simulation, chance: random.Random) -> None:
    """End a proxy as at SIGTERM; another process follows it."""
    member = simulation.members.get(chance.choice(PROXIES))
    if member is not None and simulation.proxies[member.name].available:
        simulation.record(f"end {member.name}")
        simulation.spawn_background(simulation.end_proxy(member))


def second(simulation: Simulation, _chance: random.Random) -> None:
    """Start a second proxy."""
    simulation.launch(PROXIES[1])


FAULTS = (Fault("kill a proxy", 0.25, kill), Fault("end a proxy", 0.4, end))
CLIMATES = (Climate("a second proxy", 0.2, second),)
