"""What is kept of a node between decisions: never anything that would come out otherwise if it were computed now."""

import random

import msgspec

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.events.events import AnyEvent, GpusObserved, ModelObserved, NodeObserved, WorkloadObserved
from flexinfer.events.nodes import Device, DeviceClaim
from flexinfer.placer.claims import has_loaded
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.messages import no_node_fits
from flexinfer.placer.nodeview import Scheduled
from flexinfer.placer.occupancy import Occupancy
from flexinfer.placer.requirements import requirements_of
from flexinfer.placer.schedule import best_placement
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Unschedulable
from flexinfer.placer.unsettled import unsettled
from flexinfer.state.apply import apply_events, assume, settle
from flexinfer.state.index import OCCUPYING, STARTING
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_condition, a_state
from tests.unit.placer.test_decide import a_gpu_node, a_new, a_placed
from tests.unit.placer.test_freelist import SIZES, a_busy_cluster


def a_change(chance: random.Random, state: ObservedState) -> Observation:
    """Return something that happens on a node: a sample, a Pod that ends, a Model that becomes ready, stops or is resized, another request or claim."""
    at, key = NOW + 2 + chance.random(), chance.choice(sorted(state.models))
    node = chance.choice(sorted(state.nodes))
    model, workload, facts = state.models[key], state.workloads.get(key), state.nodes[node]
    sample = state.gpus[node].observed
    claim = DeviceClaim(name="lab/x", uuid=f"{node}-0", shared=True, memory=2**30)
    newer = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    ready = a_condition("Ready", *chance.choice([("True", "Ready"), ("False", "Stopped")]))
    kept = tuple(c for c in model.status.conditions if c.type != "Ready")
    status = msgspec.structs.replace(model.status, conditions=(*kept, ready))
    changed = msgspec.structs.replace(model, metadata=newer, status=status)
    ended = tuple(msgspec.structs.replace(pod, phase="Failed") for pod in workload.pods) if workload else ()
    version = facts.version + 1
    placement = model.status.placement or Placement()
    held = placed_devices(placement.uuids, chance.choice(SIZES[2:]) or 0)
    sized = msgspec.structs.replace(placement, devices=held)
    resized = msgspec.structs.replace(
        model, metadata=newer, status=msgspec.structs.replace(model.status, placement=sized)
    )
    happens: list[AnyEvent] = [
        sample,
        GpusObserved(node=node, boot="b", sample=sample.sample + 1, devices=sample.devices[::-1]),
        ModelObserved(model=changed),
        ModelObserved(model=resized),
        WorkloadObserved(namespace="default", name=model.metadata.name, pods=ended),
        NodeObserved(
            name=node,
            node=msgspec.structs.replace(facts, version=version, requested={"nvidia.com/gpu": 1000}),
        ),
        NodeObserved(name=node, node=msgspec.structs.replace(facts, version=version, device_claims=(claim,))),
    ]
    return Observation(chance.choice(happens), at)


def test_nothing_is_kept_of_a_node_on_which_something_has_changed() -> None:
    """Each result is that of a node which is looked at for the first time."""
    chance = random.Random(8)
    models = [a_new("m", gpu=Gpu(vendor="nvidia", vram_estimate_mb=size)) for size in SIZES[2:]]
    differing = 0
    for _ in range(60):
        state = a_busy_cluster(chance)
        if not state.models:
            continue
        before: dict[str, object] = {}
        for _ in range(8):
            model = chance.choice(models)
            placements = PlacementState(state, model, NOW + 4)
            occupancy = Occupancy(placements, model)
            for name in state.nodes:
                direct = evaluate(requirements_of(model), placements.available(model, name, assigned=False))
                assert occupancy.evaluate(name) == direct
                differing += before.get(name) != direct
                before[name] = direct
            state = apply_events(state, [a_change(chance, state)])
    assert differing > 300


def test_a_refusal_is_that_of_a_state_in_which_nothing_was_refused_before() -> None:
    """Whatever has changed since the last one of its class, and however old telemetry has become; equal Models are refused in equal words."""
    chance, refused = random.Random(10), 0
    models = [
        a_new(f"m{n}", gpu=Gpu(vendor="nvidia", vram_estimate_mb=mb))
        for n, mb in enumerate((24000, 16000, 24000))
    ]
    for _ in range(300):
        state, now = a_busy_cluster(chance), NOW + 4
        for _ in range(8):
            for model in models:
                placements = PlacementState(state, model, now)
                results = {
                    name: evaluate(requirements_of(model), placements.available(model, name, assigned=False))
                    for name in state.nodes
                }
                reasons = {
                    name: result for name, result in results.items() if isinstance(result, Unschedulable)
                }
                answer = best_placement(model, placements)
                assert isinstance(answer, str) == (len(reasons) == len(results))
                if isinstance(answer, str):
                    assert answer == no_node_fits(reasons)
                    refused += 1
            now += chance.choice([0.0, 0.0, 0.0, 27.0])
            if state.models and chance.random() < 0.9:
                state = apply_events(state, [a_change(chance, state)])
    assert refused > 1000


def idle_on(name: str, node: str, group: str) -> Model:
    """Return a Model that is scheduled to a node and takes nothing there, or reserves the device of its group."""
    gpu = Gpu(vendor="nvidia", vram_estimate_mb=1000, shared=group)
    return a_placed(name, node=node, wanted=False, gpu=gpu)


def test_the_best_node_is_that_of_a_state_in_which_nothing_was_placed_before() -> None:
    """Whatever has changed since the last one of its class: the tightest fit, and of equal ones that with the fewest Models, which is another one after each write."""
    chance, placed = random.Random(11), 0
    models = [
        a_new(f"m{n}", gpu=Gpu(vendor="nvidia", vram_estimate_mb=mb))
        for n, mb in enumerate((3000, 100, 3000))
    ]
    for _ in range(200):
        state = a_busy_cluster(chance)
        for step in range(8):
            for model in models:
                placements = PlacementState(state, model, NOW + 4)
                results = [
                    evaluate(requirements_of(model), placements.available(model, name, assigned=False))
                    for name in state.nodes
                ]
                candidates = [result for result in results if isinstance(result, Candidate)]
                answer = best_placement(model, placements)
                assert isinstance(answer, str) == (not candidates)
                if isinstance(answer, str):
                    continue
                best = min(candidates, key=lambda one: one.order(placements.models_on(one.node)))
                assert (answer.placement.node, answer.placement.uuids) == (best.node, best.devices)
                placed += 1
                idle = idle_on(
                    f"idle-{step}-{model.metadata.name}", best.node, chance.choice(["", "", "", "x"])
                )
                state = apply_events(state, [Observation(ModelObserved(model=idle), NOW + 4)])
            if chance.random() < 0.5:
                state = apply_events(state, [a_change(chance, state)])
    assert placed > 1000


def test_a_model_that_starts_is_not_refused_for_the_device_that_it_takes_itself() -> None:
    """Another one of its class is: the one that starts holds the only device that is left by number."""
    gpu = Gpu(vendor="nvidia", vram_estimate_mb=8000)
    cards = tuple(Device(uuid=f"a-{n}", total_mb=24000, free_mb=24000 * n) for n in range(2))
    node = a_gpu_node(count=2, requested={"nvidia.com/gpu": 1000})
    starts, new = a_placed("starts", devices=("a-0",), gpu=gpu), a_new("new", gpu=gpu)
    sample = GpusObserved(node="a", boot="b", sample=1, devices=cards)
    state = a_state(node, sample, starts, new)
    refusal = best_placement(new, PlacementState(state, new, NOW + 4))
    assert isinstance(refusal, str)
    assert "used by default/starts" in refusal
    moved = best_placement(starts, PlacementState(state, starts, NOW + 4))
    assert isinstance(moved, Scheduled)
    assert moved.placement.uuids == ("a-1",)


def by_the_rule(state: ObservedState, node: str) -> bool:
    """Return whether Models may still take memory of a node that telemetry does not show."""
    placements = PlacementState(state, a_new("other"), NOW + 4)
    starting, running = placements.starting(node), placements.occupying(node)
    loading = [m for m in running if m.spec.devices and not has_loaded(placements, m, node)]
    return bool(loading or [m for m in starting if m.spec.devices])


def test_the_nodes_that_are_unsettled_and_their_occupants_are_those_of_the_index() -> None:
    """However the state came about, and whatever was looked at before; a Model that is assumed counts as it will be."""
    chance, unsettled_nodes = random.Random(9), 0
    for _ in range(60):
        state = a_busy_cluster(chance)
        for _ in range(8):
            for name in ("a", "b", "c", "d"):
                used = {*state.under(OCCUPYING, name), *state.under(STARTING, name)}
                occupants = state.occupants.get(name, {})
                assert {*occupants} == used
                for key, occupant in occupants.items():
                    assert (occupant.model, occupant.workload) == (
                        state.effective(key),
                        state.workloads.get(key),
                    )
                    assert occupant.changed_at == state.changed_at[occupant.model.uid]
            expected = {name for name in state.nodes if by_the_rule(state, name)}
            assert unsettled(state) == expected
            unsettled_nodes += len(expected)
            if state.models:
                state = apply_events(state, [a_change(chance, state)])
                state = assumed_or_settled(chance, state)
    assert unsettled_nodes > 300


def assumed_or_settled(chance: random.Random, state: ObservedState) -> ObservedState:
    """Return the state with the write of a Model in flight, or with none of it any more."""
    key = chance.choice(sorted(state.models))
    if chance.random() < 0.5:
        return settle(state, key)
    stopped = a_condition("Wanted", "False", "Idle")
    model = state.models[key]
    kept = tuple(c for c in model.status.conditions if c.type != "Wanted")
    status = msgspec.structs.replace(model.status, conditions=(*kept, stopped))
    return assume(state, msgspec.structs.replace(model, status=status))
