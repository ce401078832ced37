"""Every state has an exit: devices are not kept by a Model that has no engine, and what a lease waits for is named."""

import asyncio
from typing import Any

from flexinfer.api.conditions import CACHED, GRANTED, READY
from flexinfer.api.groupversion import LEASE_KIND, LEASE_PLURAL
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.reasons import Reason
from localkube.apiserver.requests import DeleteOptions
from tests.simulation.laws.requests import SERVED
from tests.simulation.loop import run
from tests.simulation.machines import NODES
from tests.simulation.simulation import Simulation
from tests.simulation.stories import create, edit, engines, said, until

LARGE = {"vendor": "nvidia", "shared": "g", "vramEstimateMB": 5000}
"""Two of them do not fit together."""
ALWAYS, SHORT = {"enabled": False}, {"idleTimeout": "6s"}
JOBS_SECONDS = 50.0


def test_a_model_whose_pod_is_gone_keeps_no_device_while_its_new_weights_are_prepared() -> None:
    """Its mate answers long before that is over."""

    async def main() -> tuple[str, bool, list[str]]:
        simulation = Simulation(1)
        simulation.start()
        create(simulation, "a", gpu=LARGE, serverless=ALWAYS)
        await said(simulation, "a", READY, Reason.READY)
        create(simulation, "b", gpu=LARGE)
        await said(simulation, "b", CACHED, Reason.CACHED)
        simulation.machines.silent_jobs_until = simulation.clock() + JOBS_SECONDS
        edit(simulation, "a", source="pvc://models/y.gguf")
        await said(simulation, "a", CACHED, Reason.CHECKING)
        simulation.store.delete(simulation.machines.pods, "default", "a-0", DeleteOptions())
        outcome = await simulation.proxies["proxy"].request("default/b", 0.1, JOBS_SECONDS / 2)
        prepared = simulation.models()["default/a"].is_true(CACHED)
        await said(simulation, "a", READY, Reason.READY)
        return outcome, prepared, simulation.checker.problems

    assert run(main()) == (SERVED, False, [])


def test_a_model_whose_pod_is_rejected_without_end_lets_its_mates_answer() -> None:
    """Quota or a policy refuses the Pod of one that always runs."""

    async def main() -> tuple[str, list[str]]:
        simulation = Simulation(1)
        simulation.start()
        create(simulation, "b", gpu=LARGE, serverless=SHORT)
        await said(simulation, "b", READY, Reason.STOPPED)
        simulation.api.broken_kinds = frozenset({"Pod"})
        create(simulation, "a", gpu=LARGE, serverless=ALWAYS)
        await said(simulation, "a", READY, Reason.CREATE_REFUSED)
        asked = asyncio.create_task(simulation.proxies["proxy"].request("default/b", 0.1))
        await said(simulation, "b", GRANTED, Reason.GRANTED)
        simulation.api.broken_kinds = frozenset()
        return await asked, simulation.checker.problems

    assert run(main()) == (SERVED, [])


def test_a_lease_whose_agent_was_removed_says_so_keeps_no_model_waiting_and_goes_on_with_the_agent() -> None:
    """Telemetry has named its device once."""

    async def main() -> tuple[str, str, list[str]]:
        simulation = Simulation(1)
        simulation.start()
        create(simulation, "a", gpu=LARGE, serverless=SHORT)
        await said(simulation, "a", READY, Reason.READY)
        [engine] = engines(simulation)
        await said(simulation, "a", GRANTED, Reason.NOT_WANTED)
        for node in NODES:
            simulation.machines.agents[node].lies.silent_until = float("inf")
        await asyncio.sleep(40)
        create(simulation, "game", LEASE_KIND, LEASE_PLURAL, group="g", memoryMB=3000)
        await until(simulation, "the lease waits", lambda: _reason(simulation) == LeaseReason.QUEUED)
        message = _condition(simulation).message
        outcome = await simulation.proxies["proxy"].request("default/a", 0.1)
        simulation.machines.agents[engine.node].lies.silent_until = 0.0
        await until(simulation, "the lease is granted", lambda: _reason(simulation) == LeaseReason.GRANTED)
        return message, outcome, simulation.checker.problems

    message, outcome, problems = run(main())
    assert "start the agent on" in message
    assert "flexinfer lease give game -n default" in message
    assert (outcome, problems) == (SERVED, [])


def _condition(simulation: Simulation) -> Any:
    [lease] = simulation.people.leases().values()
    return lease.condition()


def _reason(simulation: Simulation) -> str:
    condition = _condition(simulation)
    return condition.reason if condition is not None else ""
