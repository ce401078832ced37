"""The Models of a history of cards: what they need, and where they are placed."""

import random

import msgspec

from flexinfer.api import conditions
from flexinfer.api.bindings import DEVICE_PLUGIN
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Gpu, Model, ModelSpec, ModelStatus, Serverless
from flexinfer.api.placement import Placement, placed_devices
from tests.simulation.cards.world import BEGIN, CARDS, NODE, stamp_of

IDLE_SECONDS = 15.0
SIZES = (1000, 2000, 3000, 4500, 6500, 0)
"""Of one card, in MiB; 0: the Model does not state it."""


def created(name: str, chance: random.Random) -> Model:
    """Return a new Model, placed on a card or on both."""
    count = chance.choice([1, 1, 2])
    cards = CARDS if count == 2 else (chance.choice(CARDS),)
    gpu = _gpu(count, chance)
    spec = ModelSpec(
        backend="llamacpp",
        source="pvc://models/x.gguf",
        gpu=gpu,
        serverless=Serverless(enabled=chance.random() > 0.05, idle_timeout=f"{IDLE_SECONDS:.0f}s"),
    )
    metadata = Metadata(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        resource_version="1",
        generation=1,
        creation_timestamp=stamp_of(BEGIN - 1),
    )
    return Model(metadata=metadata, spec=spec, status=ModelStatus(placement=_placement(gpu, cards)))


def edited(model: Model, chance: random.Random) -> Model:
    """Return a Model with another group, priority or size; where it is placed stays."""
    gpu = model.spec.gpu or Gpu()
    fresh = _gpu(model.spec.devices, chance)
    change = chance.choice(["shared", "priority", "vram_estimate_mb", "exclusive"])
    gpu = msgspec.structs.replace(gpu, **{change: getattr(fresh, change)})
    placement = _placement(gpu, model.status.placement.uuids if model.status.placement else CARDS[:1])
    meta = msgspec.structs.replace(model.metadata, generation=model.metadata.generation + 1)
    spec = msgspec.structs.replace(model.spec, gpu=gpu)
    # Its owners judge the new generation at once: the template stays as it is.
    current = tuple(
        msgspec.structs.replace(c, observed_generation=meta.generation)
        for c in model.status.conditions
        if c.type not in (conditions.GRANTED, conditions.READY)
    )
    kept = tuple(c for c in model.status.conditions if c.type in (conditions.GRANTED, conditions.READY))
    status = msgspec.structs.replace(model.status, placement=placement, conditions=(*current, *kept))
    return msgspec.structs.replace(model, metadata=meta, spec=spec, status=status)


def _gpu(count: int, chance: random.Random) -> Gpu:
    size = chance.choice(SIZES)
    return Gpu(
        vendor="nvidia",
        count=count,
        shared=chance.choice(["g", "g", "g", "h"]),
        priority=chance.choice([50, 100, 100, 100, 200]),
        exclusive=chance.random() < 0.05,
        vram_estimate_mb=size * count or None,
    )


def _placement(gpu: Gpu, cards: tuple[str, ...]) -> Placement:
    each = (gpu.vram_estimate_mb or 0) // gpu.devices
    return Placement(
        node=NODE,
        vendor="nvidia",
        binding=DEVICE_PLUGIN,
        shared=True,
        devices=placed_devices(list(cards), each),
    )
