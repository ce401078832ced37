"""Objects of the API that a user deletes: a group's object, a Service, a PVC; and Jobs that fail."""

import asyncio
import random

from flexinfer.api.groupversion import GROUP, VERSION
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions
from tests.simulation.faults.base import Climate, Fault
from tests.simulation.laws.facts import GROUP_KIND, group_object_name
from tests.simulation.simulation import Simulation
from tests.simulation.users import GROUPS, NAMES


def _delete(simulation: Simulation, where: tuple[str, str, str], name: str) -> None:
    try:
        simulation.store.delete(simulation.machines.named(*where), "default", name, DeleteOptions())
    except ApiError:
        return
    simulation.record(f"delete {where[2]} {name} by hand")


def group(simulation: Simulation, chance: random.Random) -> None:
    """Delete the object that grants a group."""
    _delete(simulation, (GROUP, VERSION, GROUP_KIND), group_object_name(chance.choice(GROUPS)))


def service(simulation: Simulation, chance: random.Random) -> None:
    """Delete the Service of a Model."""
    _delete(simulation, ("", "v1", "services"), chance.choice(NAMES))


def claim(simulation: Simulation, chance: random.Random) -> None:
    """Delete the PVC of the Models; it is made again later."""
    _delete(simulation, ("", "v1", "persistentvolumeclaims"), "models")
    asyncio.get_running_loop().call_later(chance.choice([3.0, 15.0]), simulation.create_claim)


def failing(simulation: Simulation, chance: random.Random) -> None:
    """Let Jobs fail, at times."""
    simulation.machines.failing_jobs = chance.choice([0.2, 0.6])


FAULTS = (
    Fault("delete a group's object", 0.3, group, shows="a deleted group object"),
    Fault("delete a Service", 0.3, service),
    Fault("delete the PVC", 0.2, claim),
)
CLIMATES = (Climate("failing Jobs", 0.05, failing),)
