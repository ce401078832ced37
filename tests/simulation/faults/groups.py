"""Groups that are edited while their members serve: renamed, left and joined, of another policy, members of another size, class or claim."""

import asyncio
import random
from typing import Any

from flexinfer.api import conditions
from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from flexinfer.api.sharedgroup import BUDGET, ONE_AT_A_TIME
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Options, Patch
from tests.simulation.faults.base import Climate
from tests.simulation.laws.facts import GROUP_KIND, group_object_name
from tests.simulation.laws.memory import RESERVE_MB
from tests.simulation.simulation import Simulation
from tests.simulation.users import GROUPS

_EARLIEST, _LATEST = 3.0, 24.0


def edits(simulation: Simulation, chance: random.Random) -> None:
    """Let groups and their members be edited a few times."""
    for _ in range(chance.randint(2, 6)):
        at, edit = chance.uniform(_EARLIEST, _LATEST), chance.choice([rename, move, govern, resize])
        asyncio.get_running_loop().call_later(at, edit, simulation, random.Random(chance.random()))


def rename(simulation: Simulation, chance: random.Random) -> None:
    """Give all members of a group another group, as a rename does."""
    old, new = chance.sample(GROUPS, 2)
    for model in simulation.models().values():
        if model.spec.group == old:
            _patch(simulation, PLURAL, model.metadata.name, {"gpu": {"shared": new}})


def move(simulation: Simulation, chance: random.Random) -> None:
    """Take a member that is Ready out of its group, or into one."""
    ready = [model for _, model in sorted(simulation.models().items()) if model.is_true(conditions.READY)]
    if not ready:
        return
    model = chance.choice(ready)
    gpu = {"vendor": "nvidia", "shared": chance.choice(GROUPS), "vramEstimateMB": chance.choice([1500, 4000])}
    _patch(
        simulation,
        PLURAL,
        model.metadata.name,
        {"gpu": None if model.spec.group and chance.random() < 0.5 else gpu},
    )


def govern(simulation: Simulation, chance: random.Random) -> None:
    """Change the policy of a group."""
    spec = {
        "minStay": chance.choice(["0s", "5s", "30s"]),
        "maxWait": chance.choice(["10s", "5m"]),
        "reserveMB": RESERVE_MB * chance.choice([1, 2]),  # the largest still fits
        "mode": chance.choice([BUDGET, BUDGET, ONE_AT_A_TIME]),
    }
    _patch(simulation, GROUP_KIND, group_object_name(chance.choice(GROUPS)), spec)


def resize(simulation: Simulation, chance: random.Random) -> None:
    """Change what a member says that it needs."""
    members = [model for _, model in sorted(simulation.models().items()) if model.spec.group]
    if members:
        model = chance.choice(members)
        gpu = {
            "vramEstimateMB": chance.choice([1000, 3000, 6000]) * model.spec.devices,
            "priority": chance.choice([50, 100, 200]),
            "exclusive": chance.choice([True, None, None]),
        }
        _patch(simulation, PLURAL, model.metadata.name, {"gpu": gpu})


def _patch(simulation: Simulation, plural: str, name: str, spec: dict[str, Any]) -> None:
    kind, patch = simulation.named(GROUP, VERSION, plural), Patch("merge", {"spec": spec})
    try:
        simulation.store.patch(kind, "default", name, patch, Options(manager="kubectl"))
    except ApiError:
        return
    simulation.record(f"change {plural} {name} {spec}")


CLIMATES = (Climate("groups that are edited", 0.3, edits),)
