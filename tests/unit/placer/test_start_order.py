"""The order in which Models that start on one node are served, and what the devices of other groups there are to them."""

from typing import Any

import msgspec

from flexinfer.api.model import Gpu, Model
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device
from flexinfer.placer.start_order import start_order
from flexinfer.placer.state import PlacementState
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_pod, a_state, running
from tests.unit.placer.test_decide import CARD, a_gpu_node, a_new, a_placed
from tests.unit.placer.test_memory import SINCE, wanted


def starting(name: str, *, checked: bool, **changes: Any) -> Model:
    """Return a Model that starts on node `a`; `checked`: its memory was looked at for this start."""
    model = wanted(a_placed(name, **changes))
    placement = model.status.placement
    assert placement is not None
    known_for = SINCE if checked else "2020-01-01T00:00:00Z"
    status = msgspec.structs.replace(
        model.status, placement=msgspec.structs.replace(placement, checked_for=known_for)
    )
    return msgspec.structs.replace(model, status=status)


def in_order(*models: Model) -> list[str]:
    """Return the names of Models as they are served; the first was wanted first."""
    state = a_state(a_gpu_node())
    for model in models:
        state = _with(state, model)
    return [m.metadata.name for m in sorted(models, key=lambda model: start_order(state, model))]


def _with(state: ObservedState, model: Model) -> ObservedState:
    return msgspec.structs.replace(
        state,
        models={**state.models, model.key: model},
        changed_at={**state.changed_at, model.uid: {"Wanted": NOW + len(state.models)}},
    )


def test_a_model_whose_memory_was_checked_is_before_one_that_was_wanted_earlier() -> None:
    """It has been given its room already."""
    early, late = starting("early", checked=False, gpu=CARD), starting("late", checked=True, gpu=CARD)
    assert in_order(early, late) == ["late", "early"]


def test_models_that_were_not_checked_are_served_as_they_became_wanted() -> None:
    """So are those that need no check: without a device, or with the turn of a group."""
    assert in_order(*(starting(name, checked=False, gpu=CARD) for name in "ba")) == ["b", "a"]
    member = starting("b", checked=True, gpu=Gpu(vendor="nvidia", shared="card", vram_estimate_mb=8000))
    plain = starting("a", checked=True)
    assert in_order(plain, member) == ["a", "b"]
    assert in_order(plain, starting("c", checked=True, gpu=CARD)) == ["c", "a"]


def test_the_devices_of_another_group_are_reserved_whatever_group_comes_before_it() -> None:
    """Also where the first group on the node is the Model's own."""
    devices = tuple(Device(uuid=f"a-{n}", total_mb=24_000, free_mb=24_000) for n in range(2))
    own, other = (
        a_placed(name, gpu=Gpu(vendor="nvidia", shared=name, vram_estimate_mb=8000), devices=(f"a-{n}",))
        for n, name in enumerate(("first", "second"))
    )
    newcomer = a_new("third", gpu=own.spec.gpu)
    sample = GpusObserved(node="a", boot="b", sample=1, devices=devices)
    placements = PlacementState(a_state(a_gpu_node(count=2), sample, own, other, newcomer), newcomer, NOW)
    available = placements.available(newcomer, "a", assigned=False)
    assert available.reserved_for == "second"
    assert available.free["nvidia.com/gpu"] == 1000


def test_a_start_takes_as_many_devices_as_it_requests() -> None:
    """The node does not count them yet."""
    devices = tuple(Device(uuid=f"a-{n}", total_mb=24_000, free_mb=24_000) for n in range(4))
    two = a_placed("a", gpu=Gpu(vendor="nvidia", count=2, vram_estimate_mb=8000), devices=("a-0", "a-1"))
    newcomer = a_new("z", gpu=CARD)
    sample = GpusObserved(node="a", boot="b", sample=1, devices=devices)
    placements = PlacementState(a_state(a_gpu_node(count=4), sample, two, newcomer), newcomer, NOW)
    assert placements.available(newcomer, "a", assigned=False).free["nvidia.com/gpu"] == 2000


def test_what_the_members_of_a_group_request_beyond_its_devices_is_not_free() -> None:
    """Two that run together have requested a time slice each of the one card."""
    members = [
        a_placed(name, gpu=Gpu(vendor="nvidia", shared="card", vram_estimate_mb=8000), devices=("a-0",))
        for name in ("x", "y")
    ]
    pods = [running(model, a_pod(model)) for model in members]
    card = Device(uuid="a-0", total_mb=24_000, free_mb=8_000)
    sample = GpusObserved(node="a", boot="b", sample=1, devices=(card,))
    newcomer = a_new("z", gpu=CARD)
    node = a_gpu_node(count=4, requested={"nvidia.com/gpu": 2000})
    placements = PlacementState(a_state(node, sample, *members, *pods, newcomer), newcomer, NOW)
    assert placements.available(newcomer, "a", assigned=False).free["nvidia.com/gpu"] == 2000
