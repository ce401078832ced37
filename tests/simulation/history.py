"""One history: user actions, faults, and what must be true during and after them."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from flexinfer.api.groupversion import API_VERSION, GROUP, KIND, PLURAL, VERSION
from flexinfer.api.model import Model
from flexinfer.api.phase import Phase
from flexinfer.proxy.gateway import Gateway
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Patch
from tests.simulation.bus import Chances
from tests.simulation.node import Behaviour
from tests.simulation.proxy import GatewayFactory
from tests.simulation.simulation import AnyController, Simulation

NAMES = ("a", "b", "c")
FAULT_SECONDS = 30.0
AFTERMATH_SECONDS = 12.0
"""How long, in seconds, the last pause and its expired Lease, or a vanished proxy, still delays decisions."""
SETTLE_SECONDS = 240.0
QUIET_SECONDS = 15.0
IDLE = "6s"
SERVICES = ("watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher")


class Outcome(msgspec.Struct):
    """The result of a history; `log` describes what happened."""

    seed: int
    problems: list[str]
    log: list[str]
    digest: str
    """A hash of every write with its time."""


async def play(
    seed: int, services: Mapping[str, AnyController] | None = None, gateway: GatewayFactory = Gateway
) -> Outcome:
    """Play the history of a seed to its end; `services` replace the controllers of the same name."""
    simulation = Simulation(seed, services, gateway)
    simulation.start()
    history = History(simulation)
    await history.inject_faults()
    await history.settle()
    problems = [*simulation.node.violations, *simulation.checker.problems, *history.problems]
    return Outcome(seed, problems, simulation.log, simulation.checker.digest)


class History:
    """The users and the faults of a simulation, and the checks at its end."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._chance = simulation, simulation.chance
        kind = simulation.store.registry.find(GROUP, VERSION, PLURAL)
        assert kind is not None
        self._kind = kind
        self.problems: list[str] = []
        self._last_write = 0.0
        simulation.store.observe(self._written)

    def _written(self, _change: Any) -> None:
        self._last_write = self._simulation.clock()

    # --- faults

    async def inject_faults(self) -> None:
        """Perform random user actions and faults for FAULT_SECONDS."""
        simulation, chance = self._simulation, self._chance
        simulation.broker.faults = Chances(
            lost=chance.choice([0, 0.05, 0.3]),
            doubled=chance.choice([0, 0.2]),
            late=chance.choice([0, 0.5, 3]),
        )
        simulation.node.behaviour = Behaviour(
            loads=chance.choice([0.3, 2, 6]),
            stops=chance.choice([0.1, 2, 8]),
            frees=chance.choice([0.0, 1, 6]),
            dies=chance.choice([0, 0, 0.3]),
            never_ready=frozenset({"default/c"} if chance.random() < 0.15 else ()),
        )
        for name in NAMES[: chance.randint(1, 3)]:
            self._create(name)
        while simulation.clock() < FAULT_SECONDS:
            await asyncio.sleep(chance.expovariate(0.7))
            self._act()

    def _act(self) -> None:
        chance, name = self._chance, self._chance.choice(NAMES)
        act = chance.choices(
            (
                "request",
                "create",
                "delete",
                "group",
                "touch",
                "kill",
                "die",
                "pause",
                "wipe",
                "back",
                "proxy",
                "cut",
            ),
            weights=(8, 2, 2, 1, 1, 2, 3, 2, 0.4, 0.4, 0.4, 0.4),
        )[0]
        service = chance.choice(SERVICES)
        match act:
            case "request":
                self._simulation.record(f"request {name}")
                self._simulation.spawn_background(self._simulation.proxy.request(f"default/{name}"))
            case "create":
                self._create(name)
            case "delete":
                self._delete(name)
            case "group":
                self._change(name, {"gpu": chance.choice([None, self._gpu("g"), self._gpu("h")])})
            case "touch":
                self._change(name, {"serverless": {"idleTimeout": chance.choice([IDLE, "5s"])}})
            case fault:
                self._fault(fault, service)

    def _fault(self, act: str, service: str) -> None:
        simulation, member = self._simulation, self._simulation.members.get(service)
        match act:
            case "kill" if member is not None:
                simulation.kill(member)
            case "die" if member is not None:
                member.dies_at = member.calls + self._chance.randint(1, 12)
            case "pause":
                simulation.pause(service, self._chance.choice([1.0, 5.0, 9.0]))
            case "proxy" if "proxy" in simulation.members:
                simulation.kill(simulation.members["proxy"])
            case "cut":
                simulation.cut_off("proxy", self._chance.choice([1.0, 8.0]))
            case "wipe":
                simulation.record("wipe the stream")
                simulation.broker.wipe()
            case "back":
                simulation.record("roll the stream back")
                simulation.broker.roll_back()
            case _:
                return  # the component does not run

    @staticmethod
    def _gpu(group: str) -> dict[str, Any]:
        return {"vendor": "nvidia", "shared": group, "vramEstimateMB": 4000}

    def _create(self, name: str) -> None:
        spec: dict[str, Any] = {
            "backend": "llamacpp",
            "source": "pvc://models/x.gguf",
            "serverless": {
                "idleTimeout": IDLE,
                "coldStartTimeout": self._chance.choice(["5s", "60s"]),
            },
        }
        gpu = self._chance.choice([None, self._gpu("g"), self._gpu("g")])
        if gpu is not None:
            spec["gpu"] = gpu
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
        with contextlib.suppress(ApiError):
            self._simulation.store.create(self._kind, "default", body, Options(manager="kubectl"))
            self._simulation.record(f"create {name} {'in ' + gpu['shared'] if gpu else 'alone'}")

    def _delete(self, name: str) -> None:
        with contextlib.suppress(ApiError):
            self._simulation.store.delete(self._kind, "default", name, DeleteOptions())
            self._simulation.record(f"delete {name}")

    def _change(self, name: str, spec: dict[str, Any]) -> None:
        with contextlib.suppress(ApiError):
            patch = Patch("merge", {"spec": spec})
            self._simulation.store.patch(self._kind, "default", name, patch, Options(manager="kubectl"))
            self._simulation.record(f"change {name} {spec}")

    # --- recovery

    async def settle(self) -> None:
        """End all faults and requests.

        Then every Model must reach its expected phase, and writes must stop.
        """
        simulation = self._simulation
        simulation.broker.faults = Chances()
        for member in simulation.members.values():
            member.dies_at = None
        deadline = simulation.clock() + SETTLE_SECONDS
        while simulation.clock() < deadline:
            await asyncio.sleep(1.0)
            if simulation.clock() < max(FAULT_SECONDS, simulation.proxy.missed_until) + AFTERMATH_SECONDS:
                simulation.checker.restart_waits()
            simulation.checker.check_waits()
            if self._has_settled() and simulation.clock() - self._last_write > QUIET_SECONDS:
                break
        self._check()

    def _has_settled(self) -> bool:
        phases = all(self._expected(m) == m.status.phase for m in self._simulation.models().values())
        return phases and not self._simulation.checker.open_requests

    def _expected(self, model: Model) -> str:
        """Return the phase that a Model must have without requests."""
        if model.key in self._simulation.node.behaviour.never_ready:
            return Phase.FAILED if model.status.phase != Phase.IDLE else Phase.IDLE
        return Phase.IDLE

    def _check(self) -> None:
        simulation = self._simulation
        for failure in simulation.failures:
            self.problems.append(f"a component failed: {failure!r}")
        for key, model in simulation.models().items():
            if model.deleting:
                self.problems.append(f"{key} is still being deleted")
            elif model.status.phase != self._expected(model):
                conditions = ", ".join(
                    f"{c.type}={c.status}/{c.reason}@{c.observed_generation}" for c in model.status.conditions
                )
                self.problems.append(
                    f"{key} is {model.status.phase}, not {self._expected(model)} "
                    f"(generation {model.metadata.generation}): {conditions}"
                )
        if simulation.checker.open_requests:
            self.problems.append(
                f"{simulation.checker.open_requests} requests were dropped: they got no response"
            )
        quiet = simulation.clock() - self._last_write
        if quiet <= QUIET_SECONDS:
            self.problems.append(f"the last write was {quiet:.1f} s ago")
        pods = [e.model for e in simulation.node.engines.values() if not e.ended]
        if pods:
            self.problems.append(f"engines of Models that are idle still run: {pods}")
