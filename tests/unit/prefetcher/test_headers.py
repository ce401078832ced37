"""The figures of weights: what `status.cache.headers` keeps of GGUF and safetensors files."""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.gguf_files import F16, Q4_K, Q8_0, Shape, Value, packed, write
from flexinfer.api.headers import Headers
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher import headers
from flexinfer.prefetcher.check import check_path
from flexinfer.prefetcher.report import report_of
from tests.unit.prefetcher.gguf_files import a_gguf

TINY = Shape(
    name="tiny",
    architecture="llama",
    layers=4,
    embedding=256,
    feed_forward=512,
    heads=8,
    kv_heads=2,
    head=32,
    vocabulary=1024,
    context=4096,
    weights=Q4_K,
)
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
}


def read(path: Path) -> Headers:
    """Return the figures of a file or folder, as the status has them."""
    figures = headers.of_files([path]) if path.is_file() else headers.of_folder(path)
    return msgspec.convert(figures, Headers)


def a_file(folder: Path, shape: Shape = TINY, **changes: Any) -> Headers:
    """Return the figures of a GGUF file of a shape."""
    write(folder / "m.gguf", msgspec.structs.replace(shape, **changes))
    return read(folder / "m.gguf")


def a_header(folder: Path, **values: Value) -> Headers:
    """Return the figures of a GGUF file without tensors; `values` are those of its architecture, with __ for a dot."""
    named = {f"llama.{name.replace('__', '.')}": value for name, value in values.items()}
    (folder / "m.gguf").write_bytes(packed({"general.architecture": "llama"} | named, []))
    return read(folder / "m.gguf")


def test_a_gguf_file_says_what_its_model_is(tmp_path: Path) -> None:
    """The cache has two heads of 32 keys and 32 values in each of 4 layers, of 2 bytes each."""
    figures = a_file(tmp_path)
    assert (figures.format, figures.architecture, figures.quantization) == ("gguf", "llama", "Q4_K")
    assert (figures.layers, figures.heads, figures.kv_heads, figures.key_length) == (4, 8, 2, 32)
    assert (figures.embedding_length, figures.feed_forward_length, figures.vocabulary) == (256, 512, 1024)
    assert (figures.context_length, figures.kv_bytes_per_token) == (4096, 4 * 2 * 64 * 2)


@pytest.mark.parametrize("kind", [Q4_K, Q8_0, F16])
def test_the_weights_are_as_large_as_the_file(tmp_path: Path, kind: int) -> None:
    """Its header aside."""
    figures = a_file(tmp_path, weights=kind, vocabulary=32768)
    size = (tmp_path / "m.gguf").stat().st_size / 2**20
    assert size - 1 < figures.weights_mb <= size + 1


def test_the_table_of_embeddings_counts_apart_unless_it_is_the_output_too(tmp_path: Path) -> None:
    """8 MiB and a half of Q8_0; a tied one is needed on the device."""
    assert a_file(tmp_path, weights=Q8_0, vocabulary=32768).input_mb == 8
    assert a_file(tmp_path, weights=Q8_0, vocabulary=32768, tied=True).input_mb == 0


def test_of_a_mixture_of_experts_what_a_token_uses_counts(tmp_path: Path) -> None:
    """Two of eight experts."""
    figures = a_file(tmp_path, architecture="qwen3moe", experts=8, experts_used=2)
    assert (figures.experts_used, figures.feed_forward_length) == (2, 1024)


def test_layers_with_a_sliding_window_count_apart(tmp_path: Path) -> None:
    """In gemma3 each sixth layer keeps everything."""
    figures = a_file(tmp_path, architecture="gemma3", layers=12, window=512, tied=True)
    each = 2 * 64 * 2
    assert (figures.kv_bytes_per_token, figures.sliding_kv_bytes_per_token) == (2 * each, 10 * each)
    assert figures.sliding_window == 512


def test_a_file_may_say_which_layers_slide(tmp_path: Path) -> None:
    """By a list, or by every how many layers one does not."""
    shape: dict[str, Value] = {
        "block_count": 4,
        "attention__head_count": 2,
        "attention__key_length": 8,
        "attention__sliding_window": 128,
    }
    listed = a_header(tmp_path, **shape, attention__sliding_window_pattern=[True, True, True, False])
    assert listed.sliding_kv_bytes_per_token == 3 * listed.kv_bytes_per_token
    every_second = a_header(tmp_path, **shape, attention__sliding_window_pattern=2)
    assert every_second.sliding_kv_bytes_per_token == every_second.kv_bytes_per_token
    assert a_header(tmp_path, **shape).sliding_kv_bytes_per_token == 0


def test_layers_without_attention_have_no_cache(tmp_path: Path) -> None:
    """Heads of keys and values may be listed by layer."""
    shape: dict[str, Value] = {"block_count": 3, "attention__head_count": 4, "attention__key_length": 16}
    figures = a_header(tmp_path, **shape, attention__head_count_kv=[0, 2, 0])
    assert (figures.kv_heads, figures.kv_bytes_per_token) == (2, 2 * 32 * 2)


def test_a_compressed_cache_has_no_values(tmp_path: Path) -> None:
    """They are computed from what is kept for the keys."""
    shape: dict[str, Value] = {"block_count": 2, "attention__head_count": 16, "attention__head_count_kv": 1}
    figures = a_header(tmp_path, **shape, attention__key_length=576, attention__key_length_mla=192)
    assert (figures.value_length, figures.kv_bytes_per_token) == (0, 2 * 576 * 2)


def test_the_parts_of_a_split_file_and_a_projector_are_one_model(tmp_path: Path) -> None:
    """The first part says what it is, all of them how large."""
    write(tmp_path / "m-00001-of-00002.gguf", msgspec.structs.replace(TINY, vocabulary=32768))
    write(tmp_path / "m-00002-of-00002.gguf", msgspec.structs.replace(TINY, vocabulary=32768))
    one = headers.of_files([tmp_path / "m-00001-of-00002.gguf"])
    both = headers.of_files(sorted(tmp_path.glob("*.gguf")))
    assert int(both["weightsMB"]) in (2 * int(one["weightsMB"]), 2 * int(one["weightsMB"]) - 1)
    (tmp_path / "mm.gguf").write_bytes(a_gguf(elements=2**20, text="clip"))
    with_projector = headers.of_files([tmp_path / "mm.gguf", tmp_path / "m-00001-of-00002.gguf"])
    assert with_projector["architecture"] == "llama"
    assert int(with_projector["weightsMB"]) == int(one["weightsMB"]) + 4


def safetensors(path: Path, **tensors: tuple[str, int]) -> None:
    """Write a file with tensors of a type and a number of bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (kind, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": [size], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))


def test_safetensors_are_summed_and_config_says_what_they_are(tmp_path: Path) -> None:
    """The most common type is that of the weights."""
    safetensors(tmp_path / "model-1.safetensors", a=("BF16", 3 * 2**20), b=("F32", 2**20))
    safetensors(tmp_path / "model-2.safetensors", c=("BF16", 2**20))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    figures = read(tmp_path)
    assert (figures.format, figures.quantization, figures.weights_mb) == ("safetensors", "BF16", 5)
    assert (figures.architecture, figures.layers, figures.kv_heads, figures.key_length) == ("llama", 4, 2, 32)
    assert figures.kv_bytes_per_token == 4 * 2 * 64 * 2


def test_only_the_files_of_an_index_are_loaded(tmp_path: Path) -> None:
    """A repository may have the same weights in another form beside them."""
    safetensors(tmp_path / "model-1.safetensors", a=("F16", 2**20))
    safetensors(tmp_path / "consolidated.safetensors", a=("F16", 2**20))
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read(tmp_path).weights_mb == 1


def test_a_pipeline_is_the_sum_of_its_parts_without_variants(tmp_path: Path) -> None:
    """Diffusers has a folder for each."""
    (tmp_path / "model_index.json").write_text("{}")
    for part in ("unet", "vae"):
        (tmp_path / part).mkdir()
        safetensors(tmp_path / part / "model.safetensors", a=("F32", 2**21))
        safetensors(tmp_path / part / "model.fp16.safetensors", a=("F16", 2**20))
    assert (read(tmp_path).weights_mb, read(tmp_path).quantization) == (4, "F32")


@pytest.mark.parametrize(
    ("changes", "full", "sliding"),
    [
        ({"sliding_window": 64, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}, 1, 3),
        ({"layer_types": ["linear_attention"] * 3 + ["full_attention"]}, 1, 0),
        ({"sliding_window": 64, "use_sliding_window": False}, 4, 0),
        ({"sliding_window": 64, "sliding_window_pattern": 2}, 2, 2),
    ],
)
def test_config_says_which_layers_keep_what(
    tmp_path: Path, changes: dict[str, Any], full: int, sliding: int
) -> None:
    """By their kinds, or by a period."""
    safetensors(tmp_path / "model.safetensors", a=("BF16", 2**20))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | changes))
    figures, each = read(tmp_path), 2 * 64 * 2
    assert figures.kv_bytes_per_token == full * each
    assert figures.sliding_kv_bytes_per_token == sliding * each


def test_the_config_of_a_multi_modal_model_has_that_of_its_language_model_inside(tmp_path: Path) -> None:
    """The name is that of the whole."""
    safetensors(tmp_path / "model.safetensors", a=("BF16", 2**20))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": CONFIG}))
    assert (read(tmp_path).architecture, read(tmp_path).layers) == ("llava", 4)


def test_deepseeks_cache_is_compressed_in_safetensors_too(tmp_path: Path) -> None:
    """512 values and 64 of the position in each layer."""
    safetensors(tmp_path / "model.safetensors", a=("BF16", 2**20))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}))
    assert read(tmp_path).kv_bytes_per_token == 4 * 576 * 2


def test_a_check_reports_the_figures_with_the_size(tmp_path: Path) -> None:
    """And without any for weights that have none."""
    write(tmp_path / "m.gguf", TINY)
    report = check_path(tmp_path / "m.gguf")
    assert isinstance(report["headers"], dict)
    assert report["headers"]["layers"] == 4
    (tmp_path / "m.bin").write_bytes(b"12345")
    assert "headers" not in check_path(tmp_path / "m.bin")


def test_a_report_is_read_within_the_limits_of_the_status(tmp_path: Path) -> None:
    """Whatever a Pod writes."""
    figures = {"weightsMB": 2**60, "layers": -5, "architecture": "x\n" * 100}
    job = JobFacts(name="j", uid="u", complete=True, report=json.dumps({"bytes": 1, "headers": figures}))
    limited = report_of(job).headers
    assert limited is not None
    assert (limited.weights_mb, limited.layers, len(limited.architecture)) == (2**53, 0, 64)
    nothing = JobFacts(name="j", uid="u", complete=True, report='{"bytes": 1, "headers": {"layers": 3}}')
    assert report_of(nothing).headers is None


@given(st.binary(max_size=400), st.integers(0, 2**20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
def test_no_file_breaks_the_reading_of_figures(tmp_path: Path, noise: bytes, place: int) -> None:
    """A header that is damaged anywhere has other figures, or none."""
    whole = bytearray(
        (tmp_path / "w.gguf").read_bytes() if (tmp_path / "w.gguf").exists() else _tiny(tmp_path)
    )
    start = place % 2000
    whole[start : start + len(noise)] = noise
    (tmp_path / "m.gguf").write_bytes(bytes(whole))
    (tmp_path / "model.safetensors").write_bytes(noise)
    (tmp_path / "config.json").write_bytes(noise)
    assert isinstance(headers.of_files([tmp_path / "m.gguf"]), dict)
    assert isinstance(headers.of_folder(tmp_path), dict)


def _tiny(folder: Path) -> bytes:
    write(folder / "w.gguf", msgspec.structs.replace(TINY, vocabulary=300))
    return (folder / "w.gguf").read_bytes()


def test_a_store_of_ollama_says_what_its_weights_are(tmp_path: Path) -> None:
    """They are the file among its blobs that is a GGUF; templates and parameters lie beside it."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    figures = a_file(tmp_path)
    (tmp_path / "m.gguf").rename(blobs / f"sha256-{'a' * 64}")
    (blobs / f"sha256-{'b' * 64}").write_bytes(b"{{ .Prompt }}")
    (blobs / f"sha256-{'c' * 64}").write_bytes(b"")
    assert read(tmp_path) == figures
    assert figures.layers == 4
