"""An upgrade of FlexInfer that renders another Pod template: an engine that was Ready continues, and a newer spec is applied."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from flexinfer.api.conditions import READY
from flexinfer.api.reasons import Reason
from tests.simulation.deadlines import SETTINGS
from tests.simulation.engine import Engine
from tests.simulation.loop import run
from tests.simulation.simulation import Simulation
from tests.simulation.stories import create, edit, engines, said

NEWER = msgspec.structs.replace(SETTINGS, pull_secrets="mirror")


def played(story: Callable[[Simulation, Engine], Any]) -> tuple[bool, list[str]]:
    """Play a story on a Model that is Ready; returns whether the engine at its end is the one of its beginning, and what broke a law."""

    async def main() -> tuple[bool, list[str]]:
        simulation = Simulation(1)
        simulation.start()
        create(simulation, "a", serverless={"enabled": False})
        await said(simulation, "a", READY, Reason.READY)
        [engine] = engines(simulation)
        await story(simulation, engine)
        await said(simulation, "a", READY, Reason.READY)
        return engines(simulation) == [engine], simulation.checker.problems

    return run(main())


def hang(engine: Engine, *, hangs: bool) -> None:
    """Let an engine answer no request for a while, or again."""
    engine.stuck, engine.healthy = hangs, not hangs


def test_an_engine_whose_node_was_silent_during_an_upgrade_continues_also_if_the_first_probe_fails() -> None:
    """Its process is the one that was Ready."""

    async def story(simulation: Simulation, engine: Engine) -> None:
        simulation.machines.silence(engine.node)
        await said(simulation, "a", READY, Reason.NODE_UNREACHABLE)
        simulation.upgrade(NEWER)
        hang(engine, hangs=True)
        await asyncio.sleep(3)
        simulation.machines.restore(engine.node)
        await said(simulation, "a", READY, Reason.RESTARTING)
        await asyncio.sleep(1)
        hang(engine, hangs=False)

    assert played(story) == (True, [])


def test_a_spec_that_changes_while_the_node_is_silent_has_another_engine() -> None:
    """What runs is not of that spec, although Ready was written of it."""

    async def story(simulation: Simulation, engine: Engine) -> None:
        simulation.machines.silence(engine.node)
        await said(simulation, "a", READY, Reason.NODE_UNREACHABLE)
        edit(simulation, "a", source="pvc://models/y.gguf")
        await said(simulation, "a", READY, Reason.NODE_UNREACHABLE)
        await asyncio.sleep(5)  # every gate is open for it by then
        simulation.machines.restore(engine.node)

    assert played(story) == (False, [])
