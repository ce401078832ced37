"""Our processes: killed between any two calls, or paused for longer than their Lease lasts."""

import random

from tests.simulation.faults.base import Climate, Fault
from tests.simulation.simulation import SERVICES, Simulation


def kill(simulation: Simulation, chance: random.Random) -> None:
    """Kill a component."""
    member = simulation.members.get(chance.choice(SERVICES))
    if member is not None:
        simulation.kill(member)


def die(simulation: Simulation, chance: random.Random) -> None:
    """Kill a component at one of its next calls."""
    member = simulation.members.get(chance.choice(SERVICES))
    if member is not None:
        member.dies_at = member.calls + chance.randint(1, 12)


def pause(simulation: Simulation, chance: random.Random) -> None:
    """Pause a component."""
    simulation.pause(chance.choice(SERVICES), chance.choice([1.0, 5.0, 9.0]))


def lose_lease(simulation: Simulation, chance: random.Random) -> None:
    """Delete the Lease of a component by hand."""
    service = chance.choice(SERVICES)
    simulation.record(f"delete the Lease of the {service}")
    simulation.leases.expire(service)


def unfenced(simulation: Simulation, _chance: random.Random) -> None:
    """Let a paused replica continue as if it had looked at its Lease just before."""
    simulation.fenced = False


def new_identities(simulation: Simulation, _chance: random.Random) -> None:
    """Let each restart have another identity, as in a cluster: it waits for the Lease of the former one."""
    simulation.same_identity = False


FAULTS = (
    Fault("kill", 2, kill),
    Fault("die", 3, die),
    Fault("pause", 2, pause),
    Fault("lose a Lease", 0.3, lose_lease),
)
CLIMATES = (Climate("unfenced", 0.3, unfenced), Climate("new identities", 0.25, new_identities))
