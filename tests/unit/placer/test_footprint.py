"""The footprint: what a Model takes of its GPUs, whether it is stated, follows from headers, or was measured."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.headers import Headers
from flexinfer.api.model import CacheStatus, Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.placer.footprint import Figure, footprint, remembered, subject
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_condition, a_pod, a_state, all_true, devices_of, running
from tests.unit.placer.settling import settle
from tests.unit.placer.test_decide import (
    a_gpu_node,
    a_new,
    a_placed,
    later,
    node,
    only_write,
    placement_of,
    writes,
)
from tests.unit.placer.test_memory import SINCE, a_process, a_sample, wanted

CARD = Gpu(vendor="nvidia")
CONTEXT = {"contextSize": 8192}
READY_SINCE = "2026-01-01T13:00:00Z"
LARGE = Headers(
    format="gguf",
    architecture="llama",
    weights_mb=12000,
    layers=32,
    embedding_length=4096,
    feed_forward_length=14336,
    heads=32,
    kv_heads=8,
    key_length=128,
    value_length=128,
    vocabulary=128256,
    context_length=8192,
    kv_bytes_per_token=131072,
)


def cached(headers: Headers | None) -> CacheStatus:
    """Return the status of complete weights."""
    return CacheStatus(ready=True, headers=headers)


def with_headers(model: Model, headers: Headers | None = LARGE) -> Model:
    """Return the Model in its next version, once the headers of its weights were read."""
    kept = tuple(c for c in model.status.conditions if c.type != "Cached")
    status = msgspec.structs.replace(
        model.status, cache=cached(headers), conditions=(*kept, a_condition("Cached"))
    )
    return newer(msgspec.structs.replace(model, status=status))


def newer(model: Model) -> Model:
    """Return the Model with the next resourceVersion."""
    metadata = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    return msgspec.structs.replace(model, metadata=metadata)


def a_runner(**changes: Any) -> Model:
    """Return a Model whose engine is ready on the card a-0."""
    ready = msgspec.structs.replace(a_condition("Ready"), last_transition_time=READY_SINCE)
    placement = Placement(node="a", vendor="nvidia", devices=placed_devices(["a-0"]))
    conditions = (*all_true("Ready"), ready)
    facts: dict[str, Any] = {"gpu": CARD, "conditions": conditions, "placement": placement, "config": CONTEXT}
    return a_placed(**(facts | changes))


def measured_run(model: Model, *sizes: int, **facts: Any) -> ObservedState:
    """Return the state in which telemetry has shown the Model's engine with these sizes, one sample a second."""
    state = settle(a_state(a_gpu_node(), a_sample(), model, running(model, a_pod(model))), NOW).state
    for second, size in enumerate(sizes, start=1):
        sample = a_sample(a_process(size, model), **facts)
        state = settle(later(state, NOW + second, sample), NOW + second).state
    return state


def of(state: ObservedState, key: str = "default/llama") -> Placement:
    """Return the placement that a Model has."""
    placement = state.models[key].status.placement
    assert placement is not None
    return placement


def test_what_the_spec_states_goes_before_headers() -> None:
    """Its author knows best."""
    model = a_new(gpu=Gpu(vendor="nvidia", vram_estimate_mb=5000), cache_status=cached(LARGE))
    assert footprint(model) == Figure(5000, "Estimate")


def test_without_a_statement_it_follows_from_the_headers() -> None:
    """Weights, KV cache, a buffer and the engine's own: 12000 + 1024 + ... MiB."""
    known = footprint(a_new(gpu=CARD, cache_status=cached(LARGE), config=CONTEXT))
    assert known.source == "Headers"
    assert 13500 < known.mb < 14000


@pytest.mark.parametrize("backend", ["ollama", "comfyui", "nonsense"])
def test_where_headers_say_nothing_of_an_engine_it_is_not_known(backend: str) -> None:
    """Free memory is then not checked, as before."""
    assert footprint(a_new(gpu=CARD, backend=backend, cache_status=cached(LARGE))) == Figure()


def test_a_model_without_gpus_has_none() -> None:
    """Whatever its weights are."""
    assert footprint(a_new(cache_status=cached(LARGE))) == Figure()


def test_the_headers_decide_where_a_model_goes() -> None:
    """It is too large for the small card; the message says where the figure is from."""
    small = a_sample(name="a", total_mb=6000, free_mb=6000)
    write = only_write(
        a_gpu_node("a"),
        small,
        a_gpu_node("b"),
        a_sample(name="b"),
        a_new(gpu=CARD, cache_status=cached(LARGE)),
    )
    placement = placement_of(write)
    assert (node(write), placement.footprint_source) == ("b", "Headers")
    assert placement.devices == devices_of({"b-0": 24000}, placement.footprint_mb)
    assert write.condition.message.endswith(f"{placement.footprint_mb} MiB by the headers of its weights)")


def test_a_refusal_by_headers_does_not_speak_of_an_estimate_that_was_not_stated() -> None:
    """It says what makes the Model smaller."""
    small = a_sample(name="a", total_mb=6000, free_mb=6000)
    message = only_write(
        a_gpu_node("a"), small, a_new(gpu=CARD, cache_status=cached(LARGE))
    ).condition.message
    assert "MiB by the headers of its weights on 1 device" in message
    assert "Remedy: bring the model to 6000 MiB or less (a smaller quantization, context" in message
    assert "lower spec.gpu.vramEstimateMB" not in message


def test_a_model_whose_headers_come_later_leaves_a_card_that_is_too_small() -> None:
    """It was placed before anything was known of it, and has not started."""
    nodes = (a_gpu_node("a"), a_sample(name="a", total_mb=6000, free_mb=6000), a_gpu_node("b"))
    idle = a_placed(gpu=CARD, wanted=False, placement=Placement(node="a", vendor="nvidia"))
    state = a_state(*nodes, a_sample(name="b"), idle)
    assert writes(state) == {}
    write = writes(later(state, NOW + 1, events.ModelObserved(model=with_headers(idle))), NOW + 1)
    assert node(write["default/llama"]) == "b"


def test_a_start_is_checked_only_once_the_headers_are_known() -> None:
    """A check without them would let an engine start that does not fit."""
    new = wanted(a_new(gpu=CARD))
    state = settle(a_state(a_gpu_node(), a_sample(), new), NOW).state
    assert of(state).checked_for == ""
    complete = with_headers(state.models["default/llama"])
    state = settle(later(state, NOW + 1, events.ModelObserved(model=complete)), NOW + 1).state
    assert (of(state).checked_for, of(state).footprint_source) == (SINCE, "Headers")


def test_weights_without_headers_are_checked_once_they_are_complete() -> None:
    """Nothing more will be known of them before the first run."""
    new = wanted(a_new(gpu=CARD))
    state = settle(a_state(a_gpu_node(), a_sample(), new), NOW).state
    complete = with_headers(state.models["default/llama"], None)
    state = settle(later(state, NOW + 1, events.ModelObserved(model=complete)), NOW + 1).state
    assert (of(state).checked_for, of(state).footprint_source) == (SINCE, "")


def test_what_a_ready_engine_holds_replaces_what_headers_say() -> None:
    """With the time since when it was ready."""
    model = a_runner(cache_status=cached(LARGE))
    placement = of(measured_run(model, 11000))
    assert (placement.footprint_mb, placement.footprint_source) == (11000, "Measured")
    assert (placement.measured_at, placement.measured_for) == (READY_SINCE, subject(model.spec))
    assert placement.devices == devices_of({"a-0": 24000}, 11000)


def test_a_placement_by_measurement_says_so() -> None:
    """In the condition as well."""
    state = measured_run(a_runner(), 11000)
    placed = state.models["default/llama"].condition("Placed")
    assert placed is not None
    assert placed.message == "scheduled to node a (1 nvidia device, 11000 MiB as measured)"


def test_nothing_is_measured_before_the_engine_is_ready() -> None:
    """While it loads it holds less than it will."""
    model = a_runner(conditions=all_true(("Ready", "False", Reason.LOADING)))
    assert of(measured_run(model, 3000)).footprint_source == ""


def test_nothing_is_measured_where_the_driver_does_not_name_processes() -> None:
    """Memory in use without a process may be anything's."""
    assert of(measured_run(a_runner(), 3000, processes_known=False)).footprint_source == ""


def test_a_smaller_figure_changes_nothing_and_a_larger_one_counts() -> None:
    """An engine may take more memory while it works; what it once took it may take again."""
    state = measured_run(a_runner(), 8000, 5000, 8100, 9000)
    assert of(state).footprint_mb == 9000


def test_what_the_spec_states_is_not_replaced_by_a_measurement() -> None:
    """Its author may know of memory that is taken later."""
    stated = Gpu(vendor="nvidia", vram_estimate_mb=12000)
    assert of(measured_run(a_runner(gpu=stated), 9000)).footprint_source != "Measured"
    assert of(measured_run(a_runner(gpu=stated), 12500)).footprint_source != "Measured", "hardly more"


def test_an_engine_that_holds_more_than_the_spec_states_is_given_that_at_its_next_start() -> None:
    """Else its next turn on a shared card would be granted by a figure that is known to be wrong."""
    stated = Gpu(vendor="nvidia", vram_estimate_mb=12000)
    state = measured_run(a_runner(gpu=stated), 14000)
    placement = of(state)
    assert (placement.footprint_mb, placement.footprint_source) == (14000, "Measured")
    assert [device.memory_mb for device in placement.devices] == [14000]
    model = state.models["default/llama"]
    larger = msgspec.structs.replace(stated, vram_estimate_mb=16000)
    assert footprint(model).mb == 14000
    spec = msgspec.structs.replace(model.spec, gpu=larger)
    assert footprint(msgspec.structs.replace(model, spec=spec)) == Figure(16000, "Estimate")


def test_an_engine_that_was_told_its_share_keeps_its_estimate() -> None:
    """It takes what its flag says: measuring it would only repeat that."""
    model = a_runner(backend="vllm", source="HF://org/model", cache_status=cached(LARGE))
    assert of(measured_run(model, 22000)).footprint_source == "Headers"
    chosen = a_runner(backend="vllm", source="HF://org/model", config={"gpuMemoryUtilization": 0.9})
    assert of(measured_run(chosen, 21600)).footprint_source == "Measured"


def test_an_engine_that_makes_use_of_what_is_free_keeps_its_estimate() -> None:
    """On a desktop, less is free another day; the engine would start with a smaller context then."""
    model = a_runner(config={}, cache_status=cached(LARGE))
    assert of(measured_run(model, 22000)).footprint_source == "Headers"


def test_a_measured_footprint_outlives_its_placement() -> None:
    """A card that is full now says nothing against what is known of the Model."""
    state = measured_run(a_runner(), 20000)
    stopped = without_engine(state.models["default/llama"])
    state = later(state, NOW + 5, running(stopped), events.ModelObserved(model=stopped))
    full = settle(later(state, NOW + 6, a_sample(a_process(9000))), NOW + 6).state
    placed = full.models["default/llama"].condition("Placed")
    assert placed is not None
    assert placed.reason == Reason.NO_NODE_FITS
    assert "model needs 20000 MiB as measured on 1 device" in placed.message
    assert (of(full).node, of(full).footprint_mb) == ("", 20000)
    again = settle(later(full, NOW + 7, a_sample()), NOW + 7).state
    assert (of(again).node, of(again).footprint_source, of(again).measured_at) == (
        "a",
        "Measured",
        READY_SINCE,
    )


def without_engine(model: Model) -> Model:
    """Return the Model after its engine has stopped, wanted again."""
    kept = tuple(c for c in model.status.conditions if c.type != "Ready")
    stopped = (*kept, a_condition("Ready", "False", Reason.STOPPED))
    return newer(
        msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=stopped))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"contextSize": 4096}},
        {"source": "pvc://models/other.gguf"},
        {"gpu": Gpu(vendor="nvidia", count=2)},
    ],
)
def test_another_model_or_config_makes_a_measurement_void(changes: dict[str, Any]) -> None:
    """The headers count again, until the next run."""
    measured = of(measured_run(a_runner(), 11000))
    same = a_new(placement=measured, gpu=CARD, config=CONTEXT)
    assert remembered(same) is not None
    facts: dict[str, Any] = {"gpu": CARD, "config": CONTEXT, "placement": measured}
    other = a_new(cache_status=cached(LARGE), **(facts | changes))
    assert remembered(other) is None
    assert footprint(other).source == "Headers"


@given(st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 2**20))
def test_a_footprint_never_raises_whatever_headers_say(layers: int, large: int, length: int) -> None:
    """They were written by others."""
    headers = Headers(
        weights_mb=large,
        layers=layers,
        kv_bytes_per_token=large,
        context_length=length,
        sliding_window=length,
    )
    assert footprint(a_new(gpu=CARD, cache_status=cached(headers))).mb >= large
