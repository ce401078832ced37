"""The sorted free lists against brute force: the order of nodes, however the state came about, and that no better node is left out."""

import math
import random
from collections.abc import Iterator, Mapping

from flexinfer.api.model import Gpu, Model
from flexinfer.events.events import AnyEvent, GpusObserved
from flexinfer.events.nodes import Device, DeviceProcess, DraDevice, NodeFacts
from flexinfer.placer.devices import could_suit, not_given, refusal, static_refusal, suits
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.freelist import FreeLists
from flexinfer.placer.memory import Room
from flexinfer.placer.offers import Offer
from flexinfer.placer.requirements import Requirements, requirements_of
from flexinfer.placer.schedule import best_placement
from flexinfer.placer.state import PlacementState
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import STALE_SECONDS, Observation, ObservedState, Sample
from tests.builders import NOW, a_model, a_node, a_pod, a_state, running
from tests.unit.placer.test_decide import a_new, a_placed

SIZES = (None, 1, 3000, 7000, 20000)


def a_sample(chance: random.Random, node: str, at: float = NOW) -> Sample:
    """Return telemetry of a node: up to four cards of either vendor."""
    cards = tuple(
        Device(
            uuid=f"{node}-{n}",
            vendor=chance.choice(["nvidia", "amd"]),
            architecture=chance.choice(["sm_52", "sm_86"]),
            total_mb=24000,
            free_mb=chance.choice([-5, 0, 3000, 7000, 24000, 30000]),
            healthy=chance.random() < 0.9,
        )
        for n in range(chance.randint(0, 4))
    )
    return Sample(GpusObserved(node=node, boot="b", sample=1, devices=cards), at)


def some_requirements(chance: random.Random) -> Requirements:
    """Return what a Model asks for."""
    gpu = Gpu(
        vendor=chance.choice(["auto", "nvidia", "amd"]),
        count=chance.choice([1, 1, 2]),
        vram_estimate_mb=chance.choice(SIZES),
    )
    return requirements_of(a_model(gpu=gpu, backend=chance.choice(["llamacpp", "vllm"])))


def slack(requirements: Requirements, sample: Sample | None) -> float:
    """Return the least slack on a node, by the rule."""
    devices = sample.observed.devices if sample is not None else ()
    best = math.inf
    for vendor in requirements.vendors:
        usable = [
            d for d in devices if d.vendor == vendor and d.healthy and not requirements.unsupported_reason(d)
        ]
        free = sorted(max(0, min(d.free_mb, d.total_mb)) for d in usable)
        fitting = [mb for mb in free if mb >= requirements.device_mb]
        if len(fitting) >= requirements.devices:
            chosen = (
                fitting[: requirements.devices]
                if requirements.device_mb
                else fitting[-requirements.devices :]
            )
            left = sum(chosen) - requirements.device_mb * requirements.devices
            best = min(best, float(left) if requirements.device_mb else -float(sum(chosen)))
    return best


def test_nodes_come_in_the_order_of_least_slack_however_telemetry_came() -> None:
    """Samples that change, nodes that come and go, telemetry of nodes that are not known: 500 histories of one list."""
    chance, lists = random.Random(4), FreeLists()
    nodes: Mapping[str, NodeFacts] = {}
    gpus: Mapping[str, Sample] = {}
    for step in range(500):
        name = f"n{chance.randint(0, 30)}"
        if chance.random() < 0.2:
            nodes = (
                {k: v for k, v in nodes.items() if k != name}
                if name in nodes
                else {**nodes, name: a_node(name)}
            )
        gpus = (
            {k: v for k, v in gpus.items() if k != name}
            if chance.random() < 0.1
            else {**gpus, name: a_sample(chance, name)}
        )
        if step % 50 == 0:
            gpus = {name: a_sample(chance, name) for name in gpus}
        requirements = some_requirements(chance)
        expected = sorted((slack(requirements, gpus.get(node)), node) for node in nodes)
        assert list(lists.of(nodes, gpus).least_slack(requirements)) == expected
        since = {node: NOW + chance.randint(0, 9) for node in nodes if chance.random() < 0.8}
        stale, awaited = lists.deadlines(since)
        assert stale == sorted(sample.at + STALE_SECONDS for sample in gpus.values())
        assert awaited == sorted(since.get(node, 0.0) + STALE_SECONDS for node in nodes.keys() - gpus.keys())


def others(chance: random.Random, node: str, cards: int) -> Iterator[AnyEvent | Model]:
    """Yield Models that run or start on a node: on any of its cards, loaded or not, seen by telemetry or not."""
    for number in range(chance.randint(0, cards)):
        name = f"{node}-other-{number}"
        model = a_placed(
            name,
            node=node,
            devices=(f"{node}-{number}",),
            gpu=Gpu(vendor="nvidia", vram_estimate_mb=chance.choice(SIZES[2:])),
        )
        yield model
        if chance.random() < 0.6:
            yield running(model, a_pod(model, uid=f"pod-{name}", node=node))


def a_busy_cluster(chance: random.Random) -> ObservedState:
    """Return nodes on which Models run and start, with telemetry that is older or newer than their changes."""
    parts: list[AnyEvent | Model | NodeFacts] = []
    samples = []
    for name in ("a", "b", "c", "d"):
        cards = []
        for number in range(chance.randint(1, 3)):
            used = chance.choice([0, 0, 3000, 7000])
            process = DeviceProcess(
                pid=number, used_mb=used, pod_uid=chance.choice(["", f"pod-{name}-other-{number}"])
            )
            cards.append(
                Device(
                    uuid=f"{name}-{number}",
                    total_mb=24000,
                    used_mb=used,
                    free_mb=24000 - used,
                    processes=(process,) if used else (),
                )
            )
        amounts = {"nvidia.com/gpu": 1000 * chance.choice([len(cards), len(cards), 2 * len(cards)])}
        requested = {"nvidia.com/gpu": 1000 * chance.randint(0, len(cards))}
        parts += [
            a_node(name, allocatable={"pods": 9000} | amounts, requested=requested),
            *others(chance, name, len(cards)),
        ]
        event = GpusObserved(node=name, boot="b", sample=1, devices=tuple(cards))
        samples.append(Observation(event, NOW + chance.choice([-1.0, 1.0])))
    return apply_events(a_state(*parts), samples)


def test_no_node_that_is_better_is_left_out_where_models_run_and_start() -> None:
    """The placement is the best of all nodes, each evaluated; refused only where all refuse, each with its reason."""
    chance, placed = random.Random(5), 0
    for _ in range(1500):
        gpu = Gpu(vendor="nvidia", count=chance.choice([1, 1, 2]), vram_estimate_mb=chance.choice(SIZES))
        model = a_new("m", gpu=gpu)
        state = a_busy_cluster(chance)
        placements = PlacementState(state, model, NOW + 2)
        results = [
            evaluate(requirements_of(model), placements.available(model, n, assigned=False))
            for n in state.nodes
        ]
        candidates = [result for result in results if isinstance(result, Candidate)]
        answer = best_placement(model, placements)
        if isinstance(answer, str):
            assert not candidates
            assert all(result.message in answer for result in results if not isinstance(result, Candidate))
            continue
        placed += 1
        best = min(candidates, key=lambda c: c.order(placements.models_on(c.node)))
        assert (answer.placement.node, answer.placement.uuids) == (best.node, best.devices)
    assert placed > 500


def test_a_device_suits_exactly_where_there_is_no_refusal() -> None:
    """What is asked of each device, in few words or none: its health, size, room, holder, and how its node gives it."""
    chance, suited = random.Random(6), 0
    for _ in range(2000):
        size, free = chance.choice([6000, 24000]), chance.choice([0, 3000, 3500, 24000])
        device = Device(uuid="g", total_mb=size, free_mb=free, healthy=chance.random() < 0.9)
        taken, reserved = chance.choice(["", "", "default/m"]), chance.choice(["", "", "team"])
        allocated = chance.choice(["", "", "ResourceClaim lab/x"])
        room = Room(
            device=device,
            free_mb=min(size, free),
            taken_by=taken,
            allocated_to=allocated,
            reserved_for=reserved,
        )
        listed = DraDevice(
            driver="gpu.nvidia.com",
            memory=size << 20,
            shared=True,
            step=chance.choice([0, 2**30]),
            most=chance.choice([0, 3500 << 20]),
        )
        given = Offer(
            uuids=frozenset(chance.choice([("g",), ("g",), ()])),
            shared=frozenset(chance.choice([("g",), ()])),
            dra=chance.choice([{}, {"g": listed}]),
        )
        requirements = requirements_of(
            a_model(gpu=Gpu(vendor="nvidia", vram_estimate_mb=chance.choice(SIZES)))
        )
        allowed = refusal(requirements, room, "n", given) is None
        assert suits(requirements, room, requirements.device_mb, given) == allowed
        static = static_refusal(requirements, device) or not_given(requirements, device, given)
        assert could_suit(requirements, device, requirements.device_mb, given) == (static is None)
        suited += allowed
    assert 100 < suited < 1900
