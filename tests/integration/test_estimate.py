"""The estimate of a GGUF model's memory beside what the real engine allocates; `benchmarks.estimate` has the whole table."""

from pathlib import Path

import pytest

from benchmarks.estimate import CONFIGS, compare
from benchmarks.gguf_files import Q4_K, Q8_0, Shape, write

pytestmark = [pytest.mark.integration, pytest.mark.slow]
WITH_WINDOW = Shape(
    name="gemma3", architecture="gemma3", layers=6, heads=8, head=128, window=512, tied=True, weights=Q8_0
)
WITH_EXPERTS = Shape(
    name="qwen3moe",
    architecture="qwen3moe",
    layers=2,
    feed_forward=512,
    experts=8,
    experts_used=4,
    weights=Q4_K,
)


@pytest.mark.parametrize("shape", [WITH_WINDOW, WITH_EXPERTS], ids=lambda shape: shape.name)
@pytest.mark.parametrize("config", CONFIGS[1:], ids=["one long request", "eight short ones"])
def test_the_estimate_is_what_llama_cpp_allocates(
    tmp_path: Path, shape: Shape, config: dict[str, object]
) -> None:
    """Within 3 percent, and each part within 3 percent or 2 MiB."""
    write(tmp_path / "m.gguf", shape)
    compared = compare(tmp_path / "m.gguf", config)
    assert abs(compared.error) < 0.03
    ours, truth = compared.estimated, compared.logged
    parts = (
        (ours.weights_mb, truth.weights_mb),
        (ours.kv_mb, truth.kv_mb),
        (ours.compute_mb, truth.compute_mb),
    )
    assert all(part == pytest.approx(logged, rel=0.03, abs=2) for part, logged in parts), parts
