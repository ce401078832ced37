"""Against brute force: what the placer chooses is allowed, and nothing allowed is better; and no device is given away twice."""

import itertools
import random
from collections.abc import Iterator

import msgspec

from flexinfer.api.model import Gpu, Model
from flexinfer.events.events import GpusObserved, WorkloadObserved
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.events.workload import ClaimFacts
from flexinfer.placer.decide import decide
from flexinfer.placer.requirements import requirements_of
from flexinfer.state.actions import WriteStatus
from flexinfer.state.observed import ObservedState, Sample
from tests.builders import NOW, a_condition, a_model, a_node, a_state
from tests.unit.placer.settling import settle
from tests.unit.placer.test_decide import a_new, a_placed, placement_of

CASES = 20_000
NODES = ("a", "b", "c")
ARCHITECTURES = {"nvidia": ("sm_52", "sm_86"), "amd": ("gfx1100",)}


def a_device(chance: random.Random, node: str, number: int) -> Device:
    """Return a card of one of two vendors, sometimes unhealthy."""
    vendor = chance.choice(["nvidia", "nvidia", "amd"])
    total = chance.choice([6000, 24000])
    return Device(
        uuid=f"{node}-{number}",
        vendor=vendor,
        architecture=chance.choice(ARCHITECTURES[vendor]),
        total_mb=total,
        free_mb=chance.choice([0, 2000, 4000, total]),
        healthy=chance.random() < 0.9,
    )


def a_cluster(chance: random.Random) -> tuple[dict[str, NodeFacts], dict[str, Sample]]:
    """Return nodes with their telemetry; some devices are in use by Pods that are not ours."""
    nodes, samples = {}, {}
    for name in NODES[: chance.randint(1, 3)]:
        devices = tuple(a_device(chance, name, n) for n in range(chance.randint(0, 3)))
        amounts = {f"{v}.com/gpu": 1000 * sum(d.vendor == v for d in devices) for v in ("nvidia", "amd")}
        used = {resource: chance.choice([0, 0, 1000]) for resource in amounts}
        ready = chance.choice(["True"] * 5 + ["False"])
        nodes[name] = a_node(name, ready=ready, allocatable={"pods": 9000} | amounts, requested=used)
        samples[name] = Sample(GpusObserved(node=name, boot="b", sample=1, devices=devices), NOW)
    return nodes, samples


def a_case(chance: random.Random) -> tuple[ObservedState, Model]:
    """Return a state in which one new Model with devices is to be placed; its data may be on a node."""
    gpu = Gpu(
        vendor=chance.choice(["auto", "auto", "nvidia", "amd"]),
        count=chance.choice([1, 1, 2]),
        vram_estimate_mb=chance.choice([None, 1, 2000, 4000, 7999, 24000]),
    )
    backend = chance.choice(["llamacpp", "vllm"])
    model = a_new("m", gpu=gpu, backend=backend, source="pvc://models/m.gguf")
    nodes, samples = a_cluster(chance)
    data = ClaimFacts(name="models", node=chance.choice(["", "", *nodes]))
    workload = WorkloadObserved(namespace="default", name="m", claims=(data,))
    state = ObservedState(
        models={model.key: model},
        nodes=nodes,
        gpus=samples,
        workloads={model.key: workload},
        connected_since=0.0,
    )
    return state, model


Score = tuple[bool, float, str]


def allowed(state: ObservedState, model: Model) -> Iterator[tuple[Score, str, tuple[str, ...]]]:
    """Yield every set of devices that the Model may have, with its score: by the rules, not by the code."""
    gpu = model.spec.gpu
    assert gpu is not None
    count, estimate = gpu.count or 1, gpu.vram_estimate_mb or 0
    each = -(-estimate // count)
    vendors = (gpu.vendor,) if gpu.vendor != "auto" else ("nvidia", "amd")
    data = state.workloads[model.key].claims[0].node
    for name, vendor in itertools.product(state.nodes, vendors):
        node = state.nodes[name]
        free = (node.allocatable[f"{vendor}.com/gpu"] - node.requested[f"{vendor}.com/gpu"]) // 1000
        if node.ready != "True" or free < count:
            continue
        cards = [d for d in state.gpus[name].observed.devices if d.vendor == vendor and d.healthy]
        cards = [d for d in cards if not (model.spec.backend == "vllm" and d.architecture == "sm_52")]
        for chosen in itertools.combinations([d for d in cards if d.free_mb >= each], count):
            total = sum(d.free_mb for d in chosen)
            slack = total - each * count if each else -total
            yield (name != data, slack, name), vendor, tuple(sorted(d.uuid for d in chosen))


def test_the_choice_is_allowed_and_nothing_allowed_is_better() -> None:
    """By data locality, then the tightest fit, then by name; refused only where nothing is allowed (reliability G20)."""
    chance = random.Random(15)
    placed = 0
    for _ in range(CASES):
        state, model = a_case(chance)
        [write] = [a for a in decide(state, model.key, NOW) if isinstance(a, WriteStatus)]
        options = list(allowed(state, model))
        if not options:
            assert write.condition.status == "False"
            continue
        placed += 1
        placement = placement_of(write)
        best = min(score for score, _, _ in options)
        choice = (placement.vendor, tuple(sorted(placement.uuids)))
        assert choice in [(vendor, uuids) for score, vendor, uuids in options if score == best]
    assert placed > CASES / 4


def test_equal_inputs_give_equal_answers_in_whatever_order_they_came() -> None:
    """Also the messages of refusals (reliability G19)."""
    chance = random.Random(16)
    for _ in range(500):
        state, model = a_case(chance)
        turned = msgspec.structs.replace(
            state, nodes=dict(reversed([*state.nodes.items()])), gpus=dict(reversed([*state.gpus.items()]))
        )
        assert list(decide(state, model.key, NOW)) == list(decide(turned, model.key, NOW))


def a_crowd(chance: random.Random) -> list[Model]:
    """Return Models that are placed or new, that all want to start, without a group."""
    models = []
    for number in range(chance.randint(2, 6)):
        name, node = f"m{number}", chance.choice(NODES[:2])
        gpu = Gpu(
            vendor="nvidia",
            count=chance.choice([1, 1, 2]),
            vram_estimate_mb=chance.choice([3000, 8000, 13000]),
        )
        conditions = [a_condition("Accepted"), a_condition("Wanted")]
        if chance.random() < 0.3:
            models.append(a_model(name, gpu=gpu, conditions=conditions, placement=None))
            continue
        devices = (f"{node}-0", f"{node}-1")[: gpu.devices]
        model = a_placed(name, node=node, gpu=gpu, devices=devices)
        wanted = msgspec.structs.replace(a_condition("Wanted"), last_transition_time="2026-01-01T12:00:00Z")
        kept = tuple(c for c in model.status.conditions if c.type != "Wanted")
        status = msgspec.structs.replace(model.status, conditions=(*kept, wanted))
        models.append(msgspec.structs.replace(model, status=status))
    return models


def test_models_that_start_at_once_never_take_more_of_a_device_than_it_has() -> None:
    """On nodes whose devices several Pods may have: what is promised to all of them is free on each device."""
    chance = random.Random(17)
    starting = 0
    for _ in range(400):
        parts: list[NodeFacts | GpusObserved] = []
        free: dict[str, int] = {}
        for node in NODES[:2]:
            cards = tuple(
                Device(uuid=f"{node}-{n}", total_mb=24000, free_mb=chance.choice([4000, 16000, 24000]))
                for n in range(2)
            )
            free |= {d.uuid: d.free_mb for d in cards}
            parts.append(a_node(node, allocatable={"pods": 99000, "nvidia.com/gpu": 8000}))
            parts.append(GpusObserved(node=node, boot="b", sample=1, devices=cards))
        state = settle(a_state(*parts, *a_crowd(chance)), NOW).state
        for model in state.models.values():
            placement = model.status.placement
            if not model.is_true("Placed") or placement is None or not model.checked:
                continue
            starting += 1
            for device in placement.devices:
                free[device.uuid] -= device.memory_mb
                assert device.memory_mb == requirements_of(model).device_mb
        assert all(left >= 0 for left in free.values()), free
    assert starting > 400


def test_a_model_takes_no_memory_of_a_device_that_another_starts_on_in_any_order() -> None:
    """Whichever is decided on first; the other one waits, and says who has the memory."""
    card = Gpu(vendor="nvidia", vram_estimate_mb=16000)
    node = a_node("a", allocatable={"pods": 9000, "nvidia.com/gpu": 4000})
    device = Device(uuid="a-0", name="RTX 3090", total_mb=24000, free_mb=24000)
    sample = GpusObserved(node="a", boot="b", sample=1, devices=(device,))
    both = [a_new(name, gpu=card, serverless={"enabled": False}) for name in ("one", "two")]
    for order in (both, both[::-1]):
        state = a_state(node, sample, *both)
        writes = settle(state, NOW, [model.key for model in order]).writes
        last = {write.key: write for write in writes}
        assert sorted(write.condition.status for write in last.values()) == ["False", "True"]
        [first] = [key for key, write in last.items() if write.condition.true]
        [refused] = [write.condition.message for write in last.values() if not write.condition.true]
        assert f"has 8000 MiB of 24000 MiB free ({first} 16000 MiB)" in refused
