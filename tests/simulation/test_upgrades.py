"""An upgrade of FlexInfer that renders another Pod template: an engine that was Ready continues, and a newer spec is applied."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.groupversion import API_VERSION, GROUP, KIND, PLURAL, VERSION
from flexinfer.api.reasons import Reason
from localkube.apiserver.requests import Options, Patch
from tests.simulation.deadlines import SETTINGS
from tests.simulation.engine import Engine
from tests.simulation.loop import run
from tests.simulation.simulation import Simulation

NEWER = msgspec.structs.replace(SETTINGS, pull_secrets="mirror")
PATIENCE = 60.0
SPEC = {"backend": "llamacpp", "source": "pvc://models/x.gguf", "serverless": {"enabled": False}}


async def ready(simulation: Simulation, *, reason: str = Reason.READY) -> None:
    """Wait until Ready of the Model has a reason, of its current generation."""

    def reached() -> bool:
        model = simulation.models()["default/a"]
        condition = model.condition(conditions.READY)
        current = condition is not None and condition.observed_generation == model.metadata.generation
        return current and condition is not None and condition.reason == reason

    deadline = simulation.clock() + PATIENCE
    while not reached():
        assert simulation.clock() < deadline, (reason, simulation.models()["default/a"].status.conditions)
        await asyncio.sleep(0.02)


def engines(simulation: Simulation) -> list[Engine]:
    """Return the engines that run."""
    return [engine for engine in simulation.machines.engines.values() if not engine.ended]


def played(story: Callable[[Simulation, Engine], Any]) -> tuple[bool, list[str]]:
    """Play a story on a Model that is Ready; returns whether the engine at its end is the one of its beginning, and what broke a law."""

    async def main() -> tuple[bool, list[str]]:
        simulation = Simulation(1)
        simulation.start()
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"}, "spec": SPEC}
        simulation.store.create(
            simulation.named(GROUP, VERSION, PLURAL), "default", body, Options(manager="kubectl")
        )
        await ready(simulation)
        [engine] = engines(simulation)
        await story(simulation, engine)
        await ready(simulation)
        return engines(simulation) == [engine], simulation.checker.problems

    return run(main())


def hang(engine: Engine, *, hangs: bool) -> None:
    """Let an engine answer no request for a while, or again."""
    engine.stuck, engine.healthy = hangs, not hangs


async def lose_sight(simulation: Simulation, engine: Engine) -> None:
    """Let the node of the engine fall silent, the release be rolled out meanwhile, and the first probe of an engine fail that is seen again."""
    simulation.machines.silence(engine.node)
    await ready(simulation, reason=Reason.NODE_UNREACHABLE)
    simulation.upgrade(NEWER)
    hang(engine, hangs=True)
    await asyncio.sleep(3)
    simulation.machines.restore(engine.node)
    await ready(simulation, reason=Reason.RESTARTING)
    await asyncio.sleep(1)


def test_an_engine_whose_node_was_silent_during_an_upgrade_continues_also_if_the_first_probe_fails() -> None:
    """Its process is the one that was Ready."""

    async def story(simulation: Simulation, engine: Engine) -> None:
        await lose_sight(simulation, engine)
        hang(engine, hangs=False)

    assert played(story) == (True, [])


def test_a_spec_that_changes_while_the_node_is_silent_has_another_engine() -> None:
    """What runs is not of that spec, although Ready was written of it."""

    async def story(simulation: Simulation, engine: Engine) -> None:
        simulation.machines.silence(engine.node)
        await ready(simulation, reason=Reason.NODE_UNREACHABLE)
        patch = Patch("merge", {"spec": {"source": "pvc://models/y.gguf"}})
        kind = simulation.named(GROUP, VERSION, PLURAL)
        simulation.store.patch(kind, "default", "a", patch, Options(manager="kubectl"))
        await ready(simulation, reason=Reason.NODE_UNREACHABLE)
        await asyncio.sleep(5)  # every gate is open for it by then
        simulation.machines.restore(engine.node)

    assert played(story) == (False, [])
