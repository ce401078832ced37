"""For every state: nothing is assigned twice, equal states give equal placements, writes are idempotent."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.podspec import Resources
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer import decide as deciding
from flexinfer.state.actions import WriteStatus
from flexinfer.state.index import should_run
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_condition, a_model, a_node, a_pod, a_state, running
from tests.keyed import on_all_models
from tests.unit.placer.settling import settle
from tests.unit.placer.test_decide import placement_of

decide = on_all_models(deciding.decide)

NODES = ("a", "b", "c")


@st.composite
def nodes(draw: st.DrawFn, name: str) -> tuple[NodeFacts, events.GpusObserved]:
    """Draw a node and its telemetry."""
    free = draw(st.lists(st.integers(0, 24), max_size=3))
    taken = draw(st.integers(0, len(free)))
    facts = a_node(
        name,
        ready=draw(st.sampled_from(["True", "True", "True", "False"])),
        labels=draw(st.sampled_from([{}, {"disk": "ssd"}])),
        allocatable={"cpu": 8000, "nvidia.com/gpu": len(free) * 1000},
        requested={"cpu": draw(st.integers(0, 8)) * 1000, "nvidia.com/gpu": taken * 1000},
    )
    devices = tuple(
        Device(uuid=f"{name}-{i}", total_mb=24000, free_mb=gb * 1000, architecture="sm_86")
        for i, gb in enumerate(free)
    )
    return facts, events.GpusObserved(node=name, boot="b", sample=1, devices=devices)


@st.composite
def models(draw: st.DrawFn, name: str) -> Model:
    """Draw a Model: new, refused, placed, wanted or idle."""
    gpu = draw(
        st.one_of(
            st.none(),
            st.builds(
                Gpu,
                vendor=st.sampled_from(["nvidia", "auto"]),
                count=st.integers(1, 2),
                shared=st.sampled_from(["", "", "x", "y"]),
                vram_estimate_mb=st.one_of(st.none(), st.integers(1, 30000)),
            ),
        )
    )
    node = draw(st.one_of(st.none(), st.sampled_from([*NODES, "lost"])))
    states = [a_condition("Accepted")]
    states += [a_condition("Placed")] if node else []
    states += draw(
        st.sampled_from([[], [a_condition("Wanted")], [a_condition("Wanted", "False", Reason.IDLE)]])
    )
    placement = None
    if node:
        uuids = tuple(f"{node}-{i}" for i in range(gpu.devices)) if gpu else ()
        placement = Placement(
            node=node,
            vendor="nvidia" if gpu else "cpu",
            devices=placed_devices(uuids),
            binding="DevicePlugin" if uuids else "",
        )
    model = a_model(
        name,
        gpu=gpu,
        conditions=states,
        placement=placement,
        serverless={"enabled": draw(st.booleans())},
        node_selector=draw(st.sampled_from([{}, {}, {"disk": "ssd"}])),
    )
    needs = Resources(requests={"cpu": str(draw(st.integers(0, 5)))})
    return msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, resources=needs))


@st.composite
def observed_states(draw: st.DrawFn) -> ObservedState:
    """Draw a state; a placed Model may have a Pod on its node."""
    parts: list[object] = [fact for name in NODES for fact in draw(nodes(name))]
    for index in range(draw(st.integers(0, 6))):
        model = draw(models(f"m{index}"))
        parts.append(model)
        if model.status.placement is not None and draw(st.booleans()):
            parts.append(running(model, a_pod(model, node=model.status.placement.node)))
    return a_state(*parts)  # type: ignore[arg-type]


def writes(state: ObservedState) -> list[WriteStatus]:
    """Return the last status write of each key, once all is settled."""
    return list({write.key: write for write in settle(state, NOW).writes}.values())


def written(state: ObservedState) -> ObservedState:
    """Return the state after everything was written."""
    return settle(state, NOW).state


def cpu_of(model: Model) -> int:
    """Return the processor time that a Model requests, in thousandths."""
    needs = model.spec.resources
    return 1000 * int(needs.requests["cpu"]) if needs else 0


@settings(max_examples=80, deadline=None)
@given(observed_states())
def test_written_statuses_leave_nothing_to_write(state: ObservedState) -> None:
    """Idempotent: applying its own writes leaves none."""
    assert writes(written(state)) == []


@settings(max_examples=30, deadline=None)
@given(observed_states(), st.randoms(use_true_random=False))
def test_the_order_of_observations_does_not_matter(state: ObservedState, chance: object) -> None:
    """Deterministic: ties are broken by name."""
    keys_ = list(state.models)
    chance.shuffle(keys_)  # type: ignore[attr-defined]
    shuffled = msgspec.structs.replace(
        state,
        models={key: state.models[key] for key in keys_},
        nodes=dict(reversed(list(state.nodes.items()))),
    )
    assert list(decide(shuffled, NOW)) == list(decide(state, NOW))


@settings(max_examples=80, deadline=None)
@given(observed_states())
def test_a_new_placement_never_overcommits_a_node(state: ObservedState) -> None:
    """Counted are requests, all wanted Models without a Pod, and the Model itself if it is wanted."""
    after = written(state)
    for write in writes(state):
        placement = placement_of(write)
        previous = state.models[write.key].status.placement
        runs = bool(state.workload(write.model).pods)
        settled = previous and previous.node == placement.node
        if write.condition.status != "True" or runs or settled or not should_run(write.model):
            continue
        node, model = state.nodes[placement.node], write.model
        assert node.ready == "True"
        assert all(node.labels.get(k) == v for k, v in model.spec.node_selector.items())
        others = [
            m
            for m in after.models.values()
            if m.uid != model.uid
            and m.condition("Placed") is not None
            and m.condition("Placed").true  # type: ignore[union-attr]
            and m.status.placement is not None
            and m.status.placement.node == placement.node
            and should_run(m)
            and not state.workload(m).pods
            and not (m.spec.group and m.spec.group == model.spec.group)
        ]
        leaving = [
            m
            for m in state.models.values()
            if m.spec.group
            and m.spec.group == model.spec.group
            and any(pod.node == placement.node for pod in state.workload(m).pods)
        ]
        asked = cpu_of(model) + sum(map(cpu_of, others)) - sum(map(cpu_of, leaving))
        assert not cpu_of(model) or node.requested["cpu"] + asked <= node.allocatable["cpu"]
        count = model.spec.devices + sum(m.spec.devices for m in others if not m.spec.group)
        count -= sum(m.spec.devices for m in leaving)
        held = node.requested["nvidia.com/gpu"] // 1000
        assert not model.spec.devices or held + count <= node.allocatable["nvidia.com/gpu"] // 1000


@settings(max_examples=40, deadline=None)
@given(observed_states())
def test_a_new_placement_has_the_free_memory_on_each_device(state: ObservedState) -> None:
    """As measured; shared groups aside, whose holder stops first."""
    for write in writes(state):
        model, placement = write.model, placement_of(write)
        vram = (model.spec.gpu.vram_estimate_mb or 0) / model.spec.devices if model.spec.gpu else 0
        previous = state.models[write.key].status.placement
        if (
            write.condition.status != "True"
            or model.spec.group
            or (previous and previous.node == placement.node)
        ):
            continue
        sample = state.gpus[placement.node].observed.devices
        free = {device.uuid: device.free_mb for device in sample}
        assert len(placement.devices) == model.spec.devices
        assert all(free[uuid] >= vram for uuid in placement.uuids)


@settings(max_examples=40, deadline=None)
@given(observed_states())
def test_a_running_model_is_never_moved_by_telemetry_or_other_models(state: ObservedState) -> None:
    """With a Pod on a ready node and an unchanged spec."""
    moved = {write.key for write in writes(state)}
    for key, model in state.models.items():
        placement = model.status.placement
        node = state.nodes.get(placement.node) if placement else None
        if (
            placement
            and model.condition("Placed")
            and state.workload(model).pods
            and node
            and node.ready == "True"
        ):
            assert key not in moved
