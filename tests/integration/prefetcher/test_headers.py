"""The download Job's program reports the figures of what it has brought, from the files themselves."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.gguf_files import Shape, write
from tests.integration.prefetcher.hub import Hub, served
from tests.integration.prefetcher.program import downloaded

pytestmark = pytest.mark.integration
SHAPE = Shape(
    name="tiny",
    architecture="llama",
    layers=2,
    embedding=256,
    feed_forward=512,
    heads=4,
    kv_heads=2,
    vocabulary=512,
)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Serve the hub for one test."""
    with served() as running:
        yield running


def test_the_chosen_gguf_file_is_what_counts(hub: Hub, tmp_path: Path) -> None:
    """Of several in the repository; a second run that fetches nothing says the same."""
    for name, layers in (("m-Q4.gguf", 2), ("m-Q8.gguf", 7)):
        write(tmp_path / name, msgspec.structs.replace(SHAPE, layers=layers))
    hub.files = {name: (tmp_path / name).read_bytes() for name in ("m-Q4.gguf", "m-Q8.gguf")}
    for _ in range(2):
        code, report = downloaded(hub, tmp_path / "m" / "one", names=("m-Q8.gguf",))
        assert (code, report["headers"]["layers"], report["headers"]["format"]) == (0, 7, "gguf")


def test_a_repository_of_safetensors_is_read_with_its_config(hub: Hub, tmp_path: Path) -> None:
    """As vLLM loads it."""
    tensors = {"w": {"dtype": "BF16", "shape": [2**20], "data_offsets": [0, 2**21]}}
    text = json.dumps(tensors).encode()
    config = {"model_type": "llama", "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 256}
    hub.files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": struct.pack("<Q", len(text)) + text + bytes(2**21),
    }
    code, report = downloaded(hub, tmp_path / "m" / "one")
    figures = report["headers"]
    assert (code, figures["weightsMB"], figures["quantization"], figures["layers"]) == (0, 2, "BF16", 3)


def test_what_has_no_headers_is_downloaded_without_figures(hub: Hub, tmp_path: Path) -> None:
    """They help to place a Model; nothing else needs them."""
    code, report = downloaded(hub, tmp_path / "m" / "one")
    assert (code, "headers" in report) == (0, False)
