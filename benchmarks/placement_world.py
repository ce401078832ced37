"""What the placer is measured on: nodes with many devices, and the Models that run there or are new."""

import random
from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Gpu, Model, ModelSpec, ModelStatus
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.events.workload import ClaimFacts, PodFacts
from flexinfer.state.apply import apply_events
from flexinfer.state.index import OCCUPYING
from flexinfer.state.observed import Observation, ObservedState

MODELS, CARD_MB, NOW = 10_000, 80_000, 1000.0
SIZES = (4000, 8000, 16_000)
_PER_NODE, _RUNNING, _WITH_DATA = 8, 0.85, 0.33
_MOST_FREE_MB, _EQUAL_MB = 30 * CARD_MB // 100, 20_000


def a_model(number: int, size: int, vendor: str = "auto", count: int = 1) -> Model:
    """Return a new Model that was just accepted."""
    name = f"model-{number:05}"
    accepted = Condition(type=conditions.ACCEPTED, status="True", reason="Accepted", observed_generation=1)
    return Model(
        metadata=Metadata(
            name=name, namespace="default", uid=f"uid-{name}", resource_version="1", generation=1
        ),
        spec=ModelSpec(
            backend="llamacpp",
            source="pvc://m/a.gguf",
            gpu=Gpu(vendor=vendor, count=count, vram_estimate_mb=size * count),
        ),
        status=ModelStatus(conditions=(accepted,)),
    )


def cluster(devices: int, *, equal: bool = False) -> ObservedState:
    """Return nodes with that many devices, of which 85 % of the memory is in use; `equal`: of each the same."""
    chance, observed = random.Random(devices), []
    for number in range(devices // _PER_NODE):
        name = f"node-{number:04}"
        cards = tuple(
            Device(
                uuid=f"{name}-{n}",
                total_mb=CARD_MB,
                free_mb=_EQUAL_MB if equal else chance.randint(0, _MOST_FREE_MB),
            )
            for n in range(_PER_NODE)
        )
        amounts = {"pods": 10**9, "nvidia.com/gpu": 1000 * _PER_NODE}
        node = NodeFacts(name=name, uid=name, ready="True", allocatable=amounts)
        observed.append(Observation(events.NodeObserved(name=name, node=node), NOW - 1))
        sample = events.GpusObserved(node=name, boot="b", sample=1, devices=cards)
        observed.append(Observation(sample, NOW - 1))
    return msgspec.structs.replace(apply_events(ObservedState(), observed), connected_since=0.0)


def of_three_sizes() -> list[Model]:
    """Return Models of which many ask for the same."""
    chance = random.Random(1)
    return [a_model(number, chance.choice(SIZES)) for number in range(MODELS)]


def of_many_kinds() -> list[Model]:
    """Return Models of three sizes, half of them of a vendor, some on two devices."""
    chance = random.Random(2)
    return [
        a_model(number, chance.choice(SIZES), chance.choice(("auto", "nvidia")), chance.choice((1, 1, 1, 2)))
        for number in range(MODELS)
    ]


def with_data(state: ObservedState, models: Sequence[Model]) -> ObservedState:
    """Return a state in which the data of one Model in three is on a node."""
    chance, nodes = random.Random(3), sorted(state.nodes)
    volumes = [
        events.WorkloadObserved(
            namespace="default",
            name=model.metadata.name,
            claims=(ClaimFacts(name="m", node=chance.choice(nodes)),),
        )
        for model in models
        if chance.random() < _WITH_DATA
    ]
    return apply_events(state, [Observation(volume, NOW) for volume in volumes])


def with_model(state: ObservedState, model: Model) -> ObservedState:
    """Return the state with a Model."""
    return apply_events(state, [Observation(events.ModelObserved(model=model), NOW)])


def with_running(devices: int) -> ObservedState:
    """Return a cluster in which a Model runs on each of 85 % of the devices, loaded and seen by telemetry."""
    state, chance = cluster(devices), random.Random(3)
    observed = []
    for number in range(devices):
        if chance.random() > _RUNNING:
            continue
        node = f"node-{number // _PER_NODE:04}"
        observed += _running(number, node, f"{node}-{number % _PER_NODE}")
    state = apply_events(state, [Observation(event, NOW - 10) for event in observed])
    used = {name: len(state.under(OCCUPYING, name)) * 1000 for name in state.nodes}
    nodes = [
        Observation(
            events.NodeObserved(
                name=name, node=msgspec.structs.replace(node, requested={"nvidia.com/gpu": used[name]})
            ),
            NOW,
        )
        for name, node in state.nodes.items()
    ]
    return apply_events(state, nodes)


def _running(number: int, node: str, uuid: str) -> list[AnyEvent]:
    """Return the events of a Model that runs on a device."""
    model = a_model(MODELS + number, 8000)
    kinds = (conditions.ACCEPTED, conditions.PLACED, conditions.WANTED, conditions.READY)
    status = ModelStatus(
        conditions=tuple(Condition(type=k, status="True", reason="x", observed_generation=1) for k in kinds),
        placement=Placement(
            node=node, vendor="nvidia", devices=placed_devices([uuid], 8000), footprint_mb=8000
        ),
    )
    pod = PodFacts(name=f"{model.metadata.name}-0", uid=f"pod-{number}", node=node, phase="Running")
    workload = events.WorkloadObserved(namespace="default", name=model.metadata.name, pods=(pod,))
    return [events.ModelObserved(model=msgspec.structs.replace(model, status=status)), workload]
