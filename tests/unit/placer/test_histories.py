"""After any history, deciding on what each event touches leaves nothing to decide: as deciding on everything would.

Settled means that no decision on any Model yields a write. Whatever the order, a node is never given away twice.
"""

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from flexinfer.api.headers import Headers
from flexinfer.api.model import CacheStatus, Gpu, Model
from flexinfer.api.podspec import Resources
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.placer.decide import decide
from flexinfer.state.actions import WriteStatus
from flexinfer.state.index import is_starting, scheduled_to, should_run
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_condition, a_group, a_holder, a_model, a_node, a_pod, a_state, running
from tests.unit.keyed import check_key
from tests.unit.placer.settling import observe, settle
from tests.unit.placer.test_decide import a_gpu_node, a_placed, telemetry
from tests.unit.placer.test_properties import cpu_of

NAMES = tuple(f"m{i}" for i in range(8))
NODES = ("a", "b")
STEPS = 40


class History:
    """Two small nodes and eight Models that do not all fit, to which something happens again and again."""

    def __init__(self, seed: int) -> None:
        self.chance, self.version, self.now = random.Random(seed), 1, NOW
        self.state, self.due = a_state(), dict[str, float]()
        self.in_flight = bool(seed % 2)

    def observe(self, event: AnyEvent) -> None:
        """Let an event arrive, and the placer decide on what it touches and on what is due."""
        before = self.due
        self.state, touched = observe(self.state, event, self.now)
        dirty = {key for key, at in before.items() if at <= self.now} | set(touched)
        settled = settle(
            self.state, self.now, sorted(dirty & set(self.state.models)), in_flight=self.in_flight
        )
        self.state = settled.state
        self.due = {key: at for key, at in before.items() if key not in dirty} | settled.due

    def step(self) -> None:
        """Let time pass and something happen."""
        self.now += self.chance.choice([0.0, 0.5, 1.0, 1.0, 5.0, 5.0, 31.0, 61.0])
        self.version += 100
        happens = self.chance.choices(
            [
                self.a_model,
                self.a_wish,
                self.a_pod,
                self.a_node,
                self.a_sample,
                self.a_turn,
                self.a_deletion,
                self.a_loss,
                self.a_cache,
                self.a_ready,
            ],
            weights=[5, 6, 6, 2, 6, 3, 0.5, 0.3, 3, 3],
        )[0]
        event = happens()
        if event is not None:
            self.observe(event)

    def a_node(self) -> AnyEvent:
        """Return a node with room for two Models or fewer, most often ready."""
        missing = [name for name in NODES if name not in self.state.nodes]
        name = self.chance.choice(missing or NODES)
        node = a_node(
            name,
            version=self.version,
            ready=self.chance.choice([*["True"] * 7, "Unknown"]),
            labels=self.chance.choice([{}, {}, {"disk": "ssd"}]),
            allocatable={"cpu": 8000, "nvidia.com/gpu": 1000, "pods": 9000},
            requested={"cpu": self.chance.choice([0, 0, 2000, 4000])},
        )
        return events.NodeObserved(name=name, node=node)

    def a_sample(self) -> AnyEvent:
        """Return a node's telemetry."""
        name = self.chance.choice(NODES)
        device = Device(
            uuid=f"{name}-0",
            total_mb=24000,
            free_mb=self.chance.choice([1000, 12000, 24000]),
            processes=tuple(self.processes(name)),
        )
        return events.GpusObserved(node=name, boot="b", sample=self.version, devices=(device,))

    def processes(self, node: str) -> Iterator[DeviceProcess]:
        """Yield processes of the Pods on a node, each with some memory."""
        for key in sorted(self.state.workloads):
            for pod in self.state.workloads[key].pods:
                if pod.node == node:
                    used = self.chance.choice([0, 5000, 9000, 9100])
                    yield DeviceProcess(pid=len(key), used_mb=used, pod_uid=pod.uid)

    def a_cache(self) -> AnyEvent | None:
        """Return a Model whose weights are complete, with headers or without, or are so no longer."""
        headers = self.chance.choice([None, Headers(weights_mb=7000), Headers(weights_mb=13000)])
        status = self.chance.choice(["True", "True", "False"])
        if (model := self._some_model()) is None:
            return None
        cache = CacheStatus(headers=headers if status == "True" else None)
        return self._with(model, "Cached", status, cache=cache)

    def a_ready(self) -> AnyEvent | None:
        """Return a Model whose engine is ready, or not."""
        model = self._some_model()
        return (
            self._with(model, "Ready", self.chance.choice(["True", "True", "False"]))
            if model is not None
            else None
        )

    def _with(self, model: Model, kind: str, status: str, **fields: Any) -> AnyEvent:
        """Return a Model with another status of a condition, of its generation."""
        others = tuple(c for c in model.status.conditions if c.type != kind)
        condition = a_condition(kind, status, generation=model.metadata.generation)
        metadata = msgspec.structs.replace(model.metadata, resource_version=str(self.version))
        changed = msgspec.structs.replace(model.status, conditions=(*others, condition), **fields)
        return events.ModelObserved(model=msgspec.structs.replace(model, status=changed, metadata=metadata))

    def a_model(self) -> AnyEvent:
        """Return a new Model, or a newer spec of one that is accepted at once."""
        name, chance = self.chance.choice(NAMES), self.chance
        shared = chance.choice(["", "x", "x", "y"])
        card = Gpu(vendor="nvidia", shared=shared, vram_estimate_mb=chance.choice([None, 8000, 16000]))
        gpu = chance.choice([None, card])
        present = self.state.models.get(f"default/{name}")
        generation = present.metadata.generation + 1 if present is not None else 1
        states = [a_condition("Accepted", generation=generation)]
        kept = [c for c in present.status.conditions if c.type != "Accepted"] if present is not None else []
        model = a_model(
            name,
            gpu=gpu,
            version=self.version,
            generation=generation,
            uid=present.uid if present is not None else f"uid-{name}-{self.version}",
            conditions=[*states, *kept],
            placement=present.status.placement if present is not None else None,
            cache_status=present.status.cache if present is not None else None,
            config=chance.choice([{}, {"contextSize": 4096}, {"contextSize": 4096}]),
            serverless={"enabled": chance.choice([True, False])},
            node_selector=chance.choice([{}, {}, {}, {"disk": "ssd"}]),
        )
        needs = Resources(requests={"cpu": chance.choice(["1", "3", "5"])})
        return events.ModelObserved(
            model=msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, resources=needs))
        )

    def _some_model(self) -> Model | None:
        models = [self.state.models[key] for key in sorted(self.state.models)]
        return self.chance.choice(models) if models else None

    def a_wish(self) -> AnyEvent | None:
        """Return a Model that should run from now on, or no longer."""
        if (model := self._some_model()) is None:
            return None
        ends = should_run(model) and self.chance.random() < 0.5
        return self._with(model, "Wanted", "False" if ends else "True")

    def a_pod(self) -> AnyEvent | None:
        """Return a Pod that was bound where its Model is placed, or that is gone."""
        if (model := self._some_model()) is None:
            return None
        if self.state.workload(model).pods or not scheduled_to(model):
            return events.WorkloadDeleted(namespace="default", name=model.metadata.name)
        return running(model, a_pod(model, node=scheduled_to(model)))

    def a_turn(self) -> AnyEvent | None:
        """Return a SharedGroup that a Model holds from now on where it is placed, or that none holds; or its deletion."""
        model = self._some_model()
        name = model.spec.group if model is not None and model.spec.group else self.chance.choice(["x", "y"])
        if self.chance.random() < 0.1:
            return events.GroupDeleted(
                namespace="default", name=name, uid=f"uid-group-{name}", version=self.version
            )
        may_hold = (
            model is not None
            and model.spec.group
            and scheduled_to(model)
            and model.uid not in self.state.holding
        )
        if model is None or not may_hold or self.chance.random() < 0.4:
            return events.GroupObserved(group=a_group(name=name, version=self.version))
        uuids = model.status.placement.uuids if model.status.placement is not None else ()
        holder = a_holder(model.metadata.name, uid=model.uid, node=scheduled_to(model), devices=uuids)
        return events.GroupObserved(group=a_group(holder, name=name, version=self.version))

    def a_deletion(self) -> AnyEvent | None:
        """Return the deletion of a Model."""
        if (model := self._some_model()) is None:
            return None
        name = model.metadata.name
        return events.ModelDeleted(namespace="default", name=name, uid=model.uid, version=self.version)

    def a_loss(self) -> AnyEvent:
        """Return the deletion of a node."""
        return events.NodeDeleted(name=self.chance.choice(NODES), version=self.version)


def left_to_write(state: ObservedState, now: float) -> list[WriteStatus]:
    """Return what a decision on everything would write."""
    return [a for key in sorted(state.models) for a in decide(state, key, now) if isinstance(a, WriteStatus)]


@pytest.mark.parametrize("seed", range(60))
def test_what_an_event_touches_is_all_that_it_alters(seed: int) -> None:
    """Time included: what is due is decided when it is due, and nothing else is."""
    history = History(seed)
    for event in (history.a_node() for _ in NODES * 2):
        history.observe(event)
    for _ in range(STEPS):
        history.step()
        assert left_to_write(history.state, history.now) == []
        due = min(history.due.values(), default=history.now + 3600)
        assert left_to_write(history.state, max(history.now, due - 0.001)) == []
        assert not given_twice(history.state)


def given_twice(state: ObservedState) -> list[str]:
    """Return the nodes on which more is promised to Models that start than the Pods there leave; groups take turns."""
    over = []
    for name, node in state.nodes.items():
        here = [
            m
            for m in state.models.values()
            if scheduled_to(m) == name and is_starting(m, state.workloads.get(m.key))
        ]
        free = node.allocatable.get("cpu", 0) - node.requested.get("cpu", 0)
        open_ = [m for m in here if m.is_true("Accepted") and not m.spec.group and not state.workload(m).pods]
        promised = sum(cpu_of(m) for m in open_)
        if (
            node.ready == "True"
            and len(open_) > 1
            and promised > max(free, 0)
            and all(m.is_true("Placed") for m in open_)
        ):
            over.append(name)
    return over


def test_a_new_model_is_decided_on_alone_however_many_are_idle() -> None:
    """Placing one touches none of those that are scaled to zero."""
    idle = [
        a_model(f"i{n:04}", conditions=("Accepted", "Placed", ("Wanted", "False", "Idle")))
        for n in range(500)
    ]
    state = a_state(a_node(), *idle)
    new = a_model("new", conditions=("Accepted",), placement=None)
    state, touched = observe(state, events.ModelObserved(model=new), NOW)
    assert touched == [new.key]
    assert settle(state, NOW, touched).decisions == 2


def test_placing_many_new_models_takes_a_decision_or_two_for_each() -> None:
    """Not one on every other."""
    state = a_state(a_node())
    many = [a_model(f"n{n:04}", conditions=("Accepted",), placement=None) for n in range(300)]
    for model in many:
        state, _ = observe(state, events.ModelObserved(model=model), NOW)
    settled = settle(state, NOW)
    assert len(settled.writes) == 300
    assert settled.decisions <= 600


def test_a_heartbeat_of_a_node_and_an_equal_sample_touch_nothing() -> None:
    """They come every second."""
    waits = a_model("waits", gpu=Gpu(vendor="nvidia"), conditions=("Accepted",), placement=None)
    state = settle(a_state(a_node(), waits), NOW).state
    again = msgspec.structs.replace(state.nodes["a"], version=99)
    assert observe(state, events.NodeObserved(name="a", node=again), NOW)[1] == []
    card = Device(uuid="a-0", total_mb=24000, free_mb=500, temperature=60, power_watts=90, utilisation=3)
    sample = events.GpusObserved(node="a", boot="b", sample=1, devices=(card,))
    state, _ = observe(state, sample, NOW)
    warmer = msgspec.structs.replace(card, temperature=61, power_watts=250, utilisation=99)
    for seen in (card, warmer):
        equal = msgspec.structs.replace(sample, sample=2, devices=(seen,))
        assert observe(state, equal, NOW + 1)[1] == []
    fuller = msgspec.structs.replace(card, free_mb=100)
    assert observe(state, msgspec.structs.replace(sample, sample=2, devices=(fuller,)), NOW + 1)[1] == [
        waits.key
    ]


def test_a_sample_of_a_groups_node_touches_its_member_that_starts_elsewhere() -> None:
    """It may move there, also while no member holds the devices."""
    shared = Gpu(vendor="nvidia", shared="card", vram_estimate_mb=8000)
    idle = a_placed("idle", node="a", wanted=False, gpu=shared, devices=("a-0",))
    starts = a_placed("starts", node="b", gpu=shared, devices=("b-0",))
    state = a_state(a_gpu_node("a"), a_gpu_node("b"), idle, starts)
    assert set(observe(state, telemetry("a", 24_000), NOW)[1]) == {idle.key, starts.key}


@pytest.mark.parametrize("seed", range(30))
def test_time_alone_alters_no_decision_unannounced(seed: int) -> None:
    """Each moment that does was asked for: also when telemetry becomes too old, or is awaited no longer."""
    history = History(seed)
    for _ in range(STEPS // 10):
        for _ in range(10):
            history.step()
        for key in sorted(history.state.models):
            check_key(decide, history.state, key, history.now)
