"""One history: what people do, which faults befall it, and what must be true during and after."""

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
from tests.simulation.world import AnyController, World

NAMES = ("a", "b", "c")
TROUBLE_SECONDS = 30.0
AFTERMATH_SECONDS = 12.0
"""How long the last pause, and the Lease that it cost, or the wait for idle Models is still felt."""
CALM_SECONDS = 240.0
STILL_SECONDS = 15.0
IDLE = "6s"
SERVICES = ("watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher")


class Outcome(msgspec.Struct):
    """How a history ended; `log` is what happened, for a person."""

    seed: int
    problems: list[str]
    log: list[str]
    digest: str
    """A hash of every write and its time."""


async def play(
    seed: int, services: Mapping[str, AnyController] | None = None, gateway: GatewayFactory = Gateway
) -> Outcome:
    """Play the history of a seed to its end; `services` are put in place of ours of the same name."""
    world = World(seed, services, gateway)
    world.start()
    history = History(world)
    await history.trouble()
    await history.calm()
    problems = [*world.node.violations, *world.judge.problems, *history.problems]
    return Outcome(seed, problems, world.log, world.judge.digest)


class History:
    """The people of a world, and its judge."""

    def __init__(self, world: World) -> None:
        self._world, self._chance = world, world.chance
        kind = world.store.registry.find(GROUP, VERSION, PLURAL)
        assert kind is not None
        self._kind = kind
        self.problems: list[str] = []
        self._last_write = 0.0
        world.store.observe(self._written)

    def _written(self, _change: Any) -> None:
        self._last_write = self._world.clock()

    # --- trouble

    async def trouble(self) -> None:
        """Let people and faults do their worst for a while."""
        world, chance = self._world, self._chance
        world.broker.faults = Chances(
            lost=chance.choice([0, 0.05, 0.3]),
            doubled=chance.choice([0, 0.2]),
            late=chance.choice([0, 0.5, 3]),
        )
        world.node.behaviour = Behaviour(
            loads=chance.choice([0.3, 2, 6]),
            stops=chance.choice([0.1, 2, 8]),
            frees=chance.choice([0.0, 1, 6]),
            dies=chance.choice([0, 0, 0.3]),
            never_ready=frozenset({"default/c"} if chance.random() < 0.15 else ()),
        )
        for name in NAMES[: chance.randint(1, 3)]:
            self._create(name)
        while world.clock() < TROUBLE_SECONDS:
            await asyncio.sleep(chance.expovariate(0.7))
            self._something()

    def _something(self) -> None:
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
                self._world.say(f"request {name}")
                self._world.spawn_background(self._world.proxy.request(f"default/{name}"))
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
        world, member = self._world, self._world.members.get(service)
        match act:
            case "kill" if member is not None:
                world.kill(member)
            case "die" if member is not None:
                member.dies_at = member.calls + self._chance.randint(1, 12)
            case "pause":
                world.pause(service, self._chance.choice([1.0, 5.0, 9.0]))
            case "proxy" if "proxy" in world.members:
                world.kill(world.members["proxy"])
            case "cut":
                world.cut_off("proxy", self._chance.choice([1.0, 8.0]))
            case "wipe":
                world.say("wipe the stream")
                world.broker.wipe()
            case "back":
                world.say("roll the stream back")
                world.broker.roll_back()
            case _:
                return  # the service is not there to be harmed

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
            self._world.store.create(self._kind, "default", body, Options(manager="kubectl"))
            self._world.say(f"create {name} {'in ' + gpu['shared'] if gpu else 'alone'}")

    def _delete(self, name: str) -> None:
        with contextlib.suppress(ApiError):
            self._world.store.delete(self._kind, "default", name, DeleteOptions())
            self._world.say(f"delete {name}")

    def _change(self, name: str, spec: dict[str, Any]) -> None:
        with contextlib.suppress(ApiError):
            patch = Patch("merge", {"spec": spec})
            self._world.store.patch(self._kind, "default", name, patch, Options(manager="kubectl"))
            self._world.say(f"change {name} {spec}")

    # --- calm

    async def calm(self) -> None:
        """End all faults and requests; then every Model must come to rest in the phase that it belongs in."""
        world = self._world
        world.broker.faults = Chances()
        for member in world.members.values():
            member.dies_at = None
        deadline = world.clock() + CALM_SECONDS
        while world.clock() < deadline:
            await asyncio.sleep(1.0)
            if world.clock() < max(TROUBLE_SECONDS, world.proxy.missed_until) + AFTERMATH_SECONDS:
                world.judge.excuse()
            world.judge.look()
            if self._at_rest() and world.clock() - self._last_write > STILL_SECONDS:
                break
        self._judge()

    def _at_rest(self) -> bool:
        phases = all(self._expected(m) == m.status.phase for m in self._world.models().values())
        return phases and not self._world.judge.open_requests

    def _expected(self, model: Model) -> str:
        """Return the phase that a Model's spec and the lack of demand call for."""
        if model.key in self._world.node.behaviour.never_ready:
            return Phase.FAILED if model.status.phase != Phase.IDLE else Phase.IDLE
        return Phase.IDLE

    def _judge(self) -> None:
        world = self._world
        for failure in world.failures:
            self.problems.append(f"a service failed: {failure!r}")
        for key, model in world.models().items():
            if model.deleting:
                self.problems.append(f"{key} is still being deleted")
            elif model.status.phase != self._expected(model):
                said = ", ".join(
                    f"{c.type}={c.status}/{c.reason}@{c.observed_generation}" for c in model.status.conditions
                )
                self.problems.append(
                    f"{key} is {model.status.phase}, not {self._expected(model)} "
                    f"(generation {model.metadata.generation}): {said}"
                )
        if world.judge.open_requests:
            self.problems.append(f"{world.judge.open_requests} requests were dropped: they have no answer")
        quiet = world.clock() - self._last_write
        if quiet <= STILL_SECONDS:
            self.problems.append(f"the last write was {quiet:.1f} s ago")
        pods = [e.model for e in world.node.engines.values() if not e.ended]
        if pods:
            self.problems.append(f"engines of Models that are idle still run: {pods}")
