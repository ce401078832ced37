"""What stories of one Model or two in the simulation have in common: they are played in virtual time, and judged by every law."""

import asyncio
from collections.abc import Callable
from typing import Any

from flexinfer.api.groupversion import API_VERSION, GROUP, VERSION
from flexinfer.api.groupversion import KIND as MODEL
from flexinfer.api.groupversion import PLURAL as MODELS
from localkube.apiserver.requests import Options, Patch
from tests.simulation.engine import Engine
from tests.simulation.simulation import Simulation

PATIENCE = 60.0
"""How long a condition may take, in virtual seconds."""
SOURCE = "pvc://models/x.gguf"


def create(simulation: Simulation, name: str, kind: str = MODEL, plural: str = MODELS, **spec: Any) -> None:
    """Create an object of ours; a Model of llama.cpp unless it is another kind."""
    base = {"backend": "llamacpp", "source": SOURCE} if kind == MODEL else {}
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": base | spec}
    simulation.store.create(
        simulation.named(GROUP, VERSION, plural), "default", body, Options(manager="kubectl")
    )


def edit(simulation: Simulation, name: str, **spec: Any) -> None:
    """Change the spec of a Model."""
    kind = simulation.named(GROUP, VERSION, MODELS)
    simulation.store.patch(kind, "default", name, Patch("merge", {"spec": spec}), Options(manager="kubectl"))


async def until(simulation: Simulation, what: str, holds: Callable[[], bool]) -> None:
    """Wait until something holds. Raises AssertionError if that takes too long."""
    deadline = simulation.clock() + PATIENCE
    while not holds():
        states = {key: model.status.conditions for key, model in simulation.models().items()}
        assert simulation.clock() < deadline, (what, states)
        await asyncio.sleep(0.02)


async def said(simulation: Simulation, name: str, kind: str, reason: str) -> None:
    """Wait until a condition of a Model has a reason, of its current generation."""

    def holds() -> bool:
        model = simulation.models()[f"default/{name}"]
        condition = model.condition(kind)
        return (
            condition is not None
            and condition.reason == reason
            and condition.observed_generation == model.metadata.generation
        )

    await until(simulation, f"{kind} of {name} is {reason}", holds)


def engines(simulation: Simulation) -> list[Engine]:
    """Return the engines that run."""
    return [engine for engine in simulation.machines.engines.values() if not engine.ended]
