"""The share of a device's memory that an engine is started with: of the placement, and no part of what restarts an engine."""

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.launcher.manifests import template
from tests.builders import a_model
from tests.unit.launcher.models import SETTINGS


def a_vllm(footprint_mb: int, total_mb: int = 24_000, **config: object) -> Model:
    """Return a Model on one device, of which it takes so much."""
    device = PlacedDevice(uuid="GPU-a", memory_mb=footprint_mb, total_mb=total_mb)
    placement = Placement(
        node="a", vendor="nvidia", binding="Visible", devices=(device,), footprint_mb=footprint_mb
    )
    return a_model(
        backend="vllm", source="pvc://m/x", gpu=Gpu(vendor="nvidia"), placement=placement, config=config
    )


def arguments(model: Model) -> list[str]:
    """Return the engine's command line."""
    rendered = template(model, SETTINGS)
    assert rendered is not None
    return list(rendered.spec["containers"][0]["args"])


def digest(model: Model) -> str:
    """Return what tells whether an engine is of the Model's present template."""
    rendered = template(model, SETTINGS)
    assert rendered is not None
    return rendered.digest


def test_an_engine_gets_the_share_of_its_footprint() -> None:
    """Of the device's memory in all."""
    line = arguments(a_vllm(12_000))
    assert line[line.index("--gpu-memory-utilization") + 1] == "0.500000"
    assert "--gpu-memory-utilization" not in arguments(a_vllm(12_000, total_mb=0))


def test_another_footprint_alone_restarts_no_engine() -> None:
    """It was measured while the engine ran; another device or another config does."""
    assert digest(a_vllm(12_000)) == digest(a_vllm(6_000))
    assert digest(a_vllm(12_000)) != digest(a_vllm(12_000, maxModelLen=512))
