"""The users of a simulation: they create, change and delete Models, and send requests."""

import contextlib
from typing import Any

from flexinfer.api.groupversion import API_VERSION, GROUP, KIND, PLURAL, VERSION
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Patch
from tests.simulation.simulation import Simulation

NAMES = ("a", "b", "c")
GROUPS = ("g", "h")
IDLE = "6s"
BACKENDS = ("llamacpp",)
ACTIONS = ("request", "create", "delete", "recreate", "group", "touch")
WEIGHTS = (12.0, 2.0, 1.5, 0.5, 1.0, 1.0)


class Users:
    """Draws what users do."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._chance = simulation, simulation.chance
        self._kind = simulation.named(GROUP, VERSION, PLURAL)

    def act(self, action: str) -> None:
        """Do one thing."""
        chance, name = self._chance, self._chance.choice(NAMES)
        match action:
            case "request":
                self.request(name)
            case "create":
                self.create(name)
            case "delete":
                self._delete(name)
            case "recreate":
                self._delete(name)
                self.create(name)
            case "group":
                self._change(name, {"gpu": chance.choice([None, *map(self._gpu, GROUPS)])})
            case _:
                self._change(name, {"serverless": {"idleTimeout": chance.choice([IDLE, "5s"])}})

    def request(self, name: str, seconds: float | None = None) -> None:
        """Send a request, which the client may give up."""
        chance, simulation = self._chance, self._simulation
        duration = chance.choice([0.1, 1.0, 2.0, 4.0, 25.0]) if seconds is None else seconds
        patience = chance.choice([float("inf"), float("inf"), float("inf"), 1.0])
        proxies = [proxy for proxy in simulation.proxies.values() if proxy.available]
        if proxies:
            proxy = chance.choice(proxies)
            simulation.record(f"request {name} for {duration:.1f} s")
            simulation.spawn_background(proxy.request(f"default/{name}", duration, patience))

    def create(self, name: str) -> None:
        """Create a Model of a random spec."""
        chance = self._chance
        spec: dict[str, Any] = {
            "backend": chance.choice(BACKENDS),
            "source": "pvc://models/x.gguf",
            "serverless": {
                "idleTimeout": chance.choice([IDLE, IDLE, IDLE, IDLE, "20s"]),
                "coldStartTimeout": chance.choice(["5s", "60s"]),
            },
        }
        if self._simulation.apart.random() < self._simulation.always_on:
            spec["serverless"]["enabled"] = False
        gpu = chance.choice([None, self._gpu("g"), self._gpu("g")])
        if gpu is not None:
            spec["gpu"] = gpu
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
        with contextlib.suppress(ApiError):
            self._simulation.store.create(self._kind, "default", body, Options(manager="kubectl"))
            runs = "" if spec["serverless"].get("enabled", True) else ", always on"
            self._simulation.record(f"create {name} {'in ' + gpu['shared'] if gpu else 'alone'}{runs}")

    def _delete(self, name: str) -> None:
        with contextlib.suppress(ApiError):
            self._simulation.store.delete(self._kind, "default", name, DeleteOptions())
            self._simulation.record(f"delete {name}")

    def _change(self, name: str, spec: dict[str, Any]) -> None:
        with contextlib.suppress(ApiError):
            patch = Patch("merge", {"spec": spec})
            self._simulation.store.patch(self._kind, "default", name, patch, Options(manager="kubectl"))
            self._simulation.record(f"change {name} {spec}")

    def _gpu(self, group: str) -> dict[str, Any]:
        """Return a GPU of a group: two of the small ones fit together, a large one and a small one not."""
        memory = self._simulation.memory
        gpu = {"vendor": "nvidia", "shared": group, "priority": memory.choice([100, 100, 100, 50, 200])}
        estimate = memory.choice([1500, 3000, 3000, 4000, 6000, None])
        count = self._simulation.machines.requested()
        if count > 1:
            gpu["count"] = count
        return gpu if estimate is None else {**gpu, "vramEstimateMB": estimate * count}
