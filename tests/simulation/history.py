"""One history: what users do, the faults, and what must be true during and after them."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.proxy.gateway import Gateway
from tests.simulation.controllers import AnyController
from tests.simulation.deadlines import SETTINGS
from tests.simulation.faults.table import APART, CLIMATES, FAULTS, OWN
from tests.simulation.laws.convergence import Convergence
from tests.simulation.laws.facts import is_kept_waiting
from tests.simulation.laws.leases import Leases
from tests.simulation.laws.requests import SERVED
from tests.simulation.laws.streams import Streams
from tests.simulation.proxy import GatewayFactory
from tests.simulation.simulation import Simulation
from tests.simulation.users import ACTIONS, NAMES, WEIGHTS, Users

FAULT_SECONDS = 25.0
RATE = 0.9
"""How many things happen in a second."""
AFTERMATH_SECONDS = 14.0
"""How long, in seconds, the last pause and its expired Lease, or a vanished proxy, still delays decisions."""
LOST_SECONDS = SETTINGS.relist_seconds + 4.0
"""How long after the last fault a watch that fell silent, or lost a change, is noticed at the latest: by the next list."""
SETTLE_SECONDS = 300.0
QUIET_SECONDS = 15.0
TURN_SECONDS = 4.0
"""Shorter than any turn: a group has a maxWait of 10 s at least."""
DEMAND_SECONDS = 200.0
"""How long it may take until a Model that is asked for again and again answers, all before it in its group included."""
DEMANDED = 0.12
"""The share of histories whose Models must answer a request after the faults."""


class Outcome(msgspec.Struct):
    """The result of a history; `log` describes what happened."""

    seed: int
    problems: list[str]
    log: list[str]
    digest: str
    """A hash of every write with its time."""
    seconds: float = 0.0
    """How long it lasted in virtual time."""


async def play(
    seed: int, services: Mapping[str, AnyController] | None = None, gateway: GatewayFactory = Gateway
) -> Outcome:
    """Play the history of a seed to its end; `services` replace the controllers of the same name."""
    simulation = Simulation(seed, services, gateway)
    for climate in CLIMATES:
        if simulation.chance.random() < climate.share:
            climate.act(simulation, simulation.chance)
    for climate in APART:
        if simulation.apart.random() < climate.share:
            climate.act(simulation, simulation.apart)
    for climate in OWN:
        chance = random.Random(f"{seed} {climate.name}")
        if chance.random() < climate.share:
            climate.act(simulation, chance)
    simulation.start()
    simulation.people.start()
    history = History(simulation)
    await history.inject_faults()
    await history.settle()
    return Outcome(
        seed, simulation.checker.problems, simulation.log, simulation.checker.digest, simulation.clock()
    )


class History:
    """The users and the faults of a simulation, and the checks at its end."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._chance = simulation, simulation.chance
        self._users = Users(simulation)
        self._last_write = 0.0
        self._convergence = simulation.checker.law(Convergence)
        self._streams = simulation.checker.law(Streams)
        simulation.store.observe(self._written)

    def _written(self, _change: Any) -> None:
        self._last_write = self._simulation.clock()

    async def inject_faults(self) -> None:
        """Let random things happen for FAULT_SECONDS."""
        simulation, chance = self._simulation, self._chance
        for name in NAMES[: chance.randint(1, 3)]:
            self._users.create(name)
        names = [*ACTIONS, *(fault.name for fault in FAULTS)]
        weights = [*WEIGHTS, *(fault.weight for fault in FAULTS)]
        acts = {fault.name: fault.act for fault in FAULTS}
        while simulation.clock() < FAULT_SECONDS:
            await asyncio.sleep(chance.expovariate(RATE))
            name = chance.choices(names, weights)[0]
            if name in acts:
                acts[name](simulation, chance)
            else:
                self._users.act(name)

    async def settle(self) -> None:
        """End all faults.

        Then every Model must reach its expected phase, answer if it is asked, and writes must stop.
        """
        simulation = self._simulation
        simulation.calm()
        if self._chance.random() < DEMANDED:
            await self._demand()
        deadline = simulation.clock() + SETTLE_SECONDS
        while simulation.clock() < deadline:
            await asyncio.sleep(1.0)
            missed = max(proxy.missed_until for proxy in simulation.proxies.values())
            late = max(max(FAULT_SECONDS, missed) + AFTERMATH_SECONDS, FAULT_SECONDS + LOST_SECONDS)
            if simulation.clock() < late:
                simulation.checker.restart_waits()
            simulation.checker.check_waits()
            quiet = simulation.clock() - self._last_write
            if quiet > self._quiet_seconds() and self._has_settled():
                break
        simulation.checker.end_history()
        quiet = simulation.clock() - self._last_write
        if quiet <= self._quiet_seconds():
            simulation.checker.report(f"the last write was {quiet:.1f} s ago")

    def _quiet_seconds(self) -> float:
        """Return for how long nothing is written once all is settled: less than a turn where Models that always run take turns."""
        groups = [
            model.spec.group
            for model in self._simulation.models().values()
            if model.spec.group and not model.spec.serverless.enabled
        ]
        return QUIET_SECONDS if len(groups) == len(set(groups)) else TURN_SECONDS

    def _has_settled(self) -> bool:
        checker = self._simulation.checker
        done = self._convergence.reached() and not checker.requests.open and not checker.law(Leases).left()
        return done and not self._streams.behind()

    async def _demand(self) -> None:
        """Let every Model answer a request: each that can run does so in the end."""
        simulation = self._simulation
        await asyncio.sleep(AFTERMATH_SECONDS)
        simulation.checker.restart_waits()  # as in `settle`: what waited for a fault has the whole time after it
        for key, model in sorted(simulation.models().items()):
            if (
                model.deleting
                or not model.is_true(conditions.ACCEPTED)
                or key in simulation.machines.behaviour.never_ready
                or is_kept_waiting(simulation.checker.models[model.uid], simulation.checker.models.values())
            ):
                continue
            outcomes, until = Counter[str](), simulation.clock() + DEMAND_SECONDS
            while SERVED not in outcomes and simulation.clock() < until:
                proxy = next(p for p in simulation.proxies.values() if p.available)
                outcomes[await proxy.request(key, 0.1, DEMAND_SECONDS)] += 1
                await asyncio.sleep(0.5)
            if SERVED not in outcomes:
                simulation.checker.report(f"{key} was asked for after the faults: {dict(outcomes)}")
