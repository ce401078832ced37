"""Over any history of starts and stops, engines never take more of a device than it has: what is seen late is counted before.

The world is simulated: engines load in steps, telemetry comes when it comes, and memory of a stopped engine comes back late.
"""

import random

import msgspec
import pytest

from flexinfer.api.model import Gpu, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_condition, a_node, a_pod, a_state, running
from tests.unit.placer.settling import observe, settle
from tests.unit.placer.test_decide import a_new

NODES = ("a", "b")
TOTAL_MB = 24_000
NAMES = tuple(f"m{number}" for number in range(6))
STEPS = 150


class Engine(msgspec.Struct):
    """A process: what it holds of each of its devices, and will hold once it has loaded, in MiB."""

    node: str
    uuids: tuple[str, ...]
    full_mb: int
    pod: str
    held_mb: int = 0
    shown: bool = False
    """Whether a sample was taken since it has loaded."""

    @property
    def loaded(self) -> bool:
        """Whether it holds all that it will."""
        return self.held_mb == self.full_mb


class World:
    """Two nodes whose cards several Pods may share, six Models that do not all fit, and what really is in use."""

    def __init__(self, seed: int) -> None:
        self.chance, self.now, self.version = random.Random(seed), NOW, 1
        self.names_pods = bool(seed % 2)
        self.engines: dict[str, Engine] = {}
        self.lingering: list[Engine] = []
        self.starts, self.due = 0, dict[str, float]()
        self.state: ObservedState = a_state(
            *(a_node(name, allocatable={"pods": 99_000, "nvidia.com/gpu": 16_000}) for name in NODES)
        )
        for name in NODES:
            self.observe(self.sample(name))
        for name in NAMES:
            gpu = Gpu(
                vendor="nvidia",
                count=self.chance.choice([1, 1, 2]),
                vram_estimate_mb=self.chance.choice([5000, 9000, 16_000]),
            )
            self.observe(events.ModelObserved(model=a_new(name, gpu=gpu)))

    def observe(self, event: AnyEvent) -> None:
        """Let an event arrive, and the placer decide until it is done."""
        self.state, touched = observe(self.state, event, self.now)
        dirty = {key for key, at in self.due.items() if at <= self.now} | set(touched)
        settled = settle(self.state, self.now, sorted(dirty & set(self.state.models)))
        self.state = settled.state
        self.due = {key: at for key, at in self.due.items() if key not in dirty} | settled.due

    def sample(self, name: str) -> AnyEvent:
        """Return what the agent of a node sees now; on every other seed it does not know whose the processes are."""
        for engine in self.engines.values():
            engine.shown = engine.shown or (engine.node == name and engine.loaded)
        self.version += 1
        devices = tuple(self.device(f"{name}-{number}") for number in range(2))
        return events.GpusObserved(node=name, boot="b", sample=self.version, devices=devices)

    def device(self, uuid: str) -> Device:
        """Return one device as it is."""
        holding = [engine for engine in self.all_engines() if uuid in engine.uuids and engine.held_mb]
        processes = tuple(
            DeviceProcess(pid=number, used_mb=engine.held_mb, pod_uid=engine.pod if self.names_pods else "")
            for number, engine in enumerate(holding)
        )
        used = sum(process.used_mb for process in processes)
        return Device(
            uuid=uuid, total_mb=TOTAL_MB, free_mb=TOTAL_MB - used, used_mb=used, processes=processes
        )

    def all_engines(self) -> list[Engine]:
        """Return the engines that run, and those that have stopped but not given their memory back."""
        return [*self.engines.values(), *self.lingering]

    def changed(self, model: Model, kind: str, status: str, reason: str, since: str = "") -> AnyEvent:
        """Return a Model with another condition."""
        self.version += 100
        condition = msgspec.structs.replace(a_condition(kind, status, reason), last_transition_time=since)
        kept = tuple(c for c in model.status.conditions if c.type != kind)
        status_ = msgspec.structs.replace(model.status, conditions=(*kept, condition))
        metadata = msgspec.structs.replace(model.metadata, resource_version=str(self.version))
        return events.ModelObserved(model=msgspec.structs.replace(model, status=status_, metadata=metadata))

    def step(self) -> None:
        """Let time pass, and one thing happen."""
        self.now += self.chance.choice([0.1, 0.1, 1.0, 5.0])
        if self.chance.random() < 0.25:
            self.observe(self.sample(self.chance.choice(NODES)))
        elif self.lingering and self.chance.random() < 0.3:
            self.lingering.pop(self.chance.randrange(len(self.lingering)))
        else:
            self.step_of(self.state.models[f"default/{self.chance.choice(NAMES)}"])

    def step_of(self, model: Model) -> None:
        """Let a Model continue: it is wanted, starts, loads, is ready, is wanted no longer, and stops."""
        engine, wanted = self.engines.get(model.key), model.is_true("Wanted")
        if engine is None and not wanted:
            self.observe(self.changed(model, "Wanted", "True", Reason.REQUESTED, since=f"{self.now:.1f}"))
        elif engine is None:
            self.start(model)
        elif not engine.loaded:
            engine.held_mb = self.chance.choice([engine.full_mb // 2, engine.full_mb, engine.full_mb])
        elif not model.is_true("Ready"):
            self.observe(self.changed(model, "Ready", "True", Reason.READY))
        elif wanted:
            self.observe(self.changed(model, "Wanted", "False", Reason.IDLE))
        elif engine.shown:
            self.stop(model, engine)

    def start(self, model: Model) -> None:
        """Start an engine if the placer has checked its memory: as the launcher does."""
        placement = model.status.placement
        if placement is None or not model.is_true("Placed") or not model.checked:
            return
        self.starts += 1
        pod = a_pod(model, uid=f"pod-{self.starts}", node=placement.node)
        each = placement.devices[0].memory_mb
        self.engines[model.key] = Engine(placement.node, placement.uuids, each, pod.uid)
        self.observe(running(model, pod))
        self.observe(self.changed(self.state.models[model.key], "Ready", "False", Reason.LOADING))

    def stop(self, model: Model, engine: Engine) -> None:
        """Stop an engine; its memory comes back later."""
        del self.engines[model.key]
        self.lingering.append(engine)
        self.observe(events.WorkloadDeleted(namespace="default", name=model.metadata.name))
        self.observe(self.changed(self.state.models[model.key], "Ready", "False", Reason.STOPPED))

    def over_committed(self) -> list[str]:
        """Return the devices of which more is in use, or will be once all engines have loaded, than there is."""
        taken = dict.fromkeys((f"{name}-{number}" for name in NODES for number in range(2)), 0)
        for engine in self.all_engines():
            for uuid in engine.uuids:
                taken[uuid] += engine.full_mb
        return [uuid for uuid, used in taken.items() if used > TOTAL_MB]


@pytest.mark.parametrize("seed", range(40))
def test_engines_never_take_more_of_a_device_than_it_has(seed: int) -> None:
    """Whatever starts at once, and however old the telemetry is; and something does start."""
    world = World(seed)
    for _ in range(STEPS):
        world.step()
        assert world.over_committed() == []
    assert world.starts >= 4
