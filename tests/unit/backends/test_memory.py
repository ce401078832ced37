"""The estimate of an engine's GPU memory: a pure function of headers and spec. Its error is `benchmarks.estimate`'s."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer import backends
from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends.memory import Demand, Footprint, estimate

LLAMA_8B = Headers(
    format="gguf",
    architecture="llama",
    quantization="Q4_K",
    weights_mb=4685,
    input_mb=281,
    layers=32,
    embedding_length=4096,
    feed_forward_length=14336,
    heads=32,
    kv_heads=8,
    key_length=128,
    value_length=128,
    vocabulary=128256,
    context_length=131072,
    kv_bytes_per_token=131072,
)
SMALL, LENGTH = st.integers(0, 64), st.integers(0, 2**17)
HEADERS = st.builds(
    Headers,
    weights_mb=st.integers(0, 2**20),
    layers=SMALL,
    embedding_length=LENGTH,
    feed_forward_length=LENGTH,
    experts_used=SMALL,
    heads=SMALL,
    kv_heads=SMALL,
    key_length=st.integers(0, 1024),
    value_length=st.integers(0, 1024),
    vocabulary=LENGTH,
    kv_bytes_per_token=LENGTH,
    sliding_window=LENGTH,
    sliding_kv_bytes_per_token=LENGTH,
)
DEMANDS = st.builds(
    Demand,
    context=LENGTH,
    sequences=st.integers(1, 64),
    batch=st.integers(1, 4096),
    key_share=st.floats(0.1, 2),
    value_share=st.floats(0.1, 2),
    layers_on_gpu=st.floats(0, 1),
    overhead_mb=st.integers(0, 4096),
)
GROWING = ("context", "sequences", "batch", "overhead_mb")


def of(backend: str, headers: Headers = LLAMA_8B, devices: int = 1, **config: Any) -> Footprint:
    """Return the estimate of a backend for a spec with a config."""
    found = backends.find(backend)
    assert found is not None
    assert found.demand is not None
    spec = ModelSpec(backend=backend, source="HF://org/model", config=config)
    demand = found.demand(spec, headers)
    assert demand is not None
    return estimate(headers, demand, devices)


def test_llamacpp_has_room_for_the_whole_context_that_the_model_was_trained_for() -> None:
    """131072 tokens of 128 KiB are 16 GiB; the table of embeddings stays in the node's memory."""
    footprint = of("llamacpp", fitOff=True)
    assert (footprint.weights_mb, footprint.kv_mb) == (4685 - 281, 16384)


def test_a_context_that_llamacpp_fits_to_the_gpu_needs_the_least_of_it_and_a_margin() -> None:
    """4096 tokens, and 1 GiB that stays free."""
    footprint, stated = of("llamacpp"), of("llamacpp", contextSize=4096)
    assert (footprint.kv_mb, footprint.overhead_mb) == (512, stated.overhead_mb + 1024)
    small = msgspec.structs.replace(LLAMA_8B, context_length=2048)
    assert of("llamacpp", small).kv_mb == 256


def test_llamacpp_has_room_for_the_configured_context() -> None:
    """All requests at once share it."""
    assert (
        of("llamacpp", contextSize=8192).kv_mb == of("llamacpp", contextSize=8192, parallel=8).kv_mb == 1024
    )


@pytest.mark.parametrize(
    ("keys", "values", "mb"),
    [("f16", "f16", 1024), ("q8_0", "q8_0", 544), ("q8_0", "q4_0", 416), ("f32", "f16", 1536)],
)
def test_a_quantised_cache_is_smaller(keys: str, values: str, mb: int) -> None:
    """By the blocks of ggml: q8_0 has 34 bytes for 32 values."""
    footprint = of("llamacpp", contextSize=8192, cacheTypeK=keys, cacheTypeV=values)
    assert footprint.kv_mb == mb


def test_layers_with_a_sliding_window_keep_that_alone() -> None:
    """The window of each request, and what is computed at once, in whole blocks of 256 tokens."""
    headers = msgspec.structs.replace(
        LLAMA_8B, kv_bytes_per_token=1024, sliding_window=512, sliding_kv_bytes_per_token=2**20
    )
    assert of("llamacpp", headers, contextSize=8192, parallel=1).kv_mb == 8 + 1024
    assert of("llamacpp", headers, contextSize=8192, parallel=4).kv_mb == 8 + 2560
    assert of("llamacpp", headers, contextSize=512, parallel=4).kv_mb == 0.5 + 512


def test_layers_that_stay_on_the_cpu_take_no_gpu_memory() -> None:
    """Of 33 parts, the output among them, 16 are on the GPU."""
    half, whole = of("llamacpp", nGPULayers=16, contextSize=4096), of("llamacpp", contextSize=4096)
    assert half.weights_mb == pytest.approx(whole.weights_mb * 16 / 33)
    assert half.kv_mb == pytest.approx(whole.kv_mb * 16 / 33)
    assert of("llamacpp", nGPULayers=-1, contextSize=4096) == whole


def test_each_of_several_gpus_has_a_buffer_and_a_context_of_its_own() -> None:
    """Weights and cache are divided."""
    one, two = of("llamacpp", contextSize=4096), of("llamacpp", contextSize=4096, devices=2)
    assert (two.weights_mb, two.kv_mb) == (one.weights_mb, one.kv_mb)
    assert (two.compute_mb, two.overhead_mb) == (2 * one.compute_mb, 2 * one.overhead_mb)


def test_vllm_needs_room_for_one_request_of_full_length() -> None:
    """It refuses to start with less."""
    assert of("vllm", maxModelLen=16384).kv_mb == 2048
    assert of("vllm").kv_mb == 16384
    assert of("vllm", maxModelLen=16384, kvCacheDtype="fp8").kv_mb == 1024


def test_weights_that_vllm_quantises_while_it_loads_are_smaller() -> None:
    """Those of 16 bits; what is quantised already stays as it is."""
    plain = msgspec.structs.replace(LLAMA_8B, quantization="BF16")
    assert of("vllm", plain, quantization="fp8").weights_mb == plain.weights_mb / 2
    assert of("vllm", LLAMA_8B, quantization="fp8").weights_mb == LLAMA_8B.weights_mb


def test_each_request_of_ollama_has_a_context_of_its_own() -> None:
    """Of the length that the spec states, and never longer than the model was trained for."""
    assert of("ollama", contextSize=4096, parallel=1).kv_mb == 512
    assert of("ollama", contextSize=4096).kv_mb == 4 * 512
    assert of("ollama", contextSize=2**20, parallel=1).kv_mb == 16384
    assert of("ollama", contextSize=4096, parallel=1) == of("llamacpp", contextSize=4096, parallel=1)


def test_nothing_is_estimated_of_an_ollama_that_chooses_its_context() -> None:
    """It does so by the card that it finds: 4,096 tokens or 64 times as many."""
    backend = backends.find("ollama")
    assert backend is not None
    assert backend.demand is not None
    assert backend.demand(ModelSpec(backend="ollama", source="ollama://llama3:8b"), LLAMA_8B) is None


def test_a_pipeline_of_images_has_no_kv_cache() -> None:
    """Only weights, and what an image takes while it is computed."""
    headers = Headers(format="safetensors", quantization="F32", weights_mb=6800)
    assert of("diffusers", headers).kv_mb == 0
    assert of("diffusers", headers, useFp16=True).weights_mb == 3400


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ({"quantization": "nf4"}, 0.25 + 0.75 * 4.5 / 16),
        ({"quantization": "int8"}, 0.25 + 0.75 * 8 / 16),
        ({"cpuOffload": True}, 0.85),
        ({"quantization": "int8", "cpuOffload": True}, (0.25 + 0.75 * 8 / 16) * 0.85),
    ],
)
def test_a_quantised_or_offloaded_pipeline_needs_less(config: dict[str, Any], factor: float) -> None:
    """Else its keys would be of no use on a card that the whole pipeline does not fit."""
    headers = Headers(format="safetensors", quantization="BF16", weights_mb=32000)
    assert of("diffusers", headers, **config).weights_mb == pytest.approx(32000 * factor, abs=1)
    unknown = Headers(format="safetensors", quantization="", weights_mb=32000)
    assert of("diffusers", unknown, quantization="nf4").weights_mb == 32000


def test_what_is_quantised_is_so_whatever_it_was_stored_in() -> None:
    """The rest is halved with useFp16 alone."""
    headers = Headers(format="safetensors", quantization="F32", weights_mb=32000)
    rest, bits = 0.25, 0.75 * 4.5 / 32
    assert of("diffusers", headers, quantization="nf4").weights_mb == pytest.approx(
        32000 * (rest + bits), abs=1
    )
    halved = of("diffusers", headers, quantization="nf4", useFp16=True)
    assert halved.weights_mb == pytest.approx(32000 * (rest / 2 + bits), abs=1)


@given(headers=HEADERS, demand=DEMANDS, name=st.sampled_from(GROWING), more=st.integers(1, 2**16))
def test_more_of_anything_never_needs_less(headers: Headers, demand: Demand, name: str, more: int) -> None:
    """More context, requests, tokens at once or overhead."""
    larger = msgspec.structs.replace(demand, **{name: getattr(demand, name) + more})
    assert estimate(headers, larger).total_mb >= estimate(headers, demand).total_mb


@given(headers=HEADERS, demand=DEMANDS, devices=st.integers(1, 8))
def test_an_estimate_holds_the_weights_and_grows_with_the_gpus(
    headers: Headers, demand: Demand, devices: int
) -> None:
    """Whatever the headers say."""
    whole = msgspec.structs.replace(demand, layers_on_gpu=1.0)
    assert estimate(headers, whole, devices).total_mb >= headers.weights_mb
    assert estimate(headers, demand, devices + 1).total_mb >= estimate(headers, demand, devices).total_mb


@given(headers=HEADERS, demand=DEMANDS, share=st.floats(0.1, 1.0))
def test_a_smaller_cache_type_never_needs_more(headers: Headers, demand: Demand, share: float) -> None:
    """Keys and values."""
    smaller = msgspec.structs.replace(
        demand, key_share=demand.key_share * share, value_share=demand.value_share * share
    )
    assert estimate(headers, smaller).kv_mb <= estimate(headers, demand).kv_mb * (1 + 1e-9)
