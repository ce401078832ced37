"""Whatever way a node gives its devices: what the placer promises is what a scheduler, a device plugin or the placer itself can grant."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device, DeviceClaim, DraDevice, NodeFacts
from tests.builders import NOW, a_node, a_state
from tests.unit.placer.settling import settle
from tests.unit.placer.test_binding import DRIVER
from tests.unit.placer.test_optimal import NODES, a_crowd

CASES = 300
MIB = 2**20
WAYS = ("plugin", "slices", "dra", "dra", "parts", "parts", "steps", "visible")


def a_cluster(chance: random.Random) -> tuple[dict[str, NodeFacts], dict[str, Device]]:
    """Return nodes, each with two cards that it gives in some way, and the cards by uuid."""
    nodes: dict[str, NodeFacts] = {}
    cards: dict[str, Device] = {}
    for name in NODES[:2]:
        own = [
            Device(uuid=f"{name}-{n}", total_mb=24000, free_mb=chance.choice([4000, 16000, 24000]))
            for n in range(2)
        ]
        cards |= {card.uuid: card for card in own}
        nodes[name] = a_way(chance, name, own)
    return nodes, cards


def a_way(chance: random.Random, name: str, cards: list[Device]) -> NodeFacts:
    """Return a node that gives these cards in one of the ways."""
    way, amounts = chance.choice(WAYS), {"pods": 99_000}
    if way in ("plugin", "slices"):
        return a_node(name, allocatable=amounts | {"nvidia.com/gpu": 2000 if way == "plugin" else 8000})
    if way == "visible":
        return a_node(name, allocatable=amounts, runtime_classes={"nvidia": "nvidia"})
    steps: dict[str, Any] = {"least": 2048 * MIB, "step": 2048 * MIB} if way == "steps" else {}
    dra = tuple(
        DraDevice(
            driver=DRIVER,
            name=card.uuid,
            uuid=card.uuid,
            shared=way != "dra",
            tainted=chance.random() < 0.1,
            memory=24000 * MIB,
            **steps,
        )
        for card in cards
    )
    return a_node(name, allocatable=amounts, dra=dra, device_claims=tuple(claims_of_others(chance, dra)))


def claims_of_others(chance: random.Random, dra: tuple[DraDevice, ...]) -> Iterator[DeviceClaim]:
    """Yield what ResourceClaims of other users have of these cards: each whole, or a part of its memory."""
    for card in dra:
        if chance.random() < 0.3:
            memory = chance.choice([2048, 10240]) * MIB * card.shared
            yield DeviceClaim(name=f"lab/{card.name}", uuid=card.uuid, shared=card.shared, memory=memory)


def sizes(chance: random.Random, models: list[Model]) -> Iterator[Model]:
    """Yield the Models, some of unknown size."""
    for model in models:
        unknown = chance.random() < 0.15 and model.status.placement is None
        gpu = Gpu(vendor="nvidia", count=model.spec.devices) if unknown else model.spec.gpu
        yield msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, gpu=gpu))


def settled(chance: random.Random, nodes: dict[str, NodeFacts], cards: dict[str, Device]) -> list[Model]:
    """Return a crowd of Models as they are once all is decided."""
    samples = [
        GpusObserved(node=name, boot="b", sample=1, devices=tuple(cards[f"{name}-{n}"] for n in range(2)))
        for name in nodes
    ]
    state = settle(a_state(*nodes.values(), *samples, *sizes(chance, a_crowd(chance))), NOW).state
    return list(state.models.values())


def way_of(node: NodeFacts) -> str:
    """Return the binding that a node's placements must have."""
    if node.dra:
        return "DRA"
    return "DevicePlugin" if "nvidia.com/gpu" in node.allocatable else "Visible"


def granted(node: NodeFacts, uuid: str, placements: list[Placement]) -> bool:
    """Return whether the placements on a card can all be granted, by the rules of the way in which its node gives it."""
    amounts = [d.memory_mb for placement in placements for d in placement.devices if d.uuid == uuid]
    alone = len(placements) == 1
    dra = next((device for device in node.dra if device.uuid == uuid), None)
    if dra is None:
        exclusive = node.allocatable.get("nvidia.com/gpu") == 2000
        return alone or not exclusive
    if dra.tainted or not (dra.shared or alone):
        return False
    others = [claim for claim in node.device_claims if claim.uuid == uuid]
    if others and not all(claim.shared for claim in others):
        return False
    whole = any(not placement.shared for placement in placements)
    allowed = all(not dra.step or amount % 2048 == 0 for amount in amounts)
    promised = sum(amounts) * MIB + sum(claim.memory for claim in others)
    return alone and not others if whole else allowed and promised <= dra.memory


def test_what_is_promised_of_a_card_can_be_granted_to_all_at_once() -> None:
    """G20: no card is over-committed, in memory or in holders, and none is promised in a way that its node does not have."""
    chance = random.Random(18)
    promised = 0
    for _ in range(CASES):
        nodes, cards = a_cluster(chance)
        models = settled(chance, nodes, cards)
        on: dict[str, list[Placement]] = {}
        for model in models:
            placement = model.status.placement
            if not model.is_true("Placed") or placement is None or not model.checked:
                continue
            assert placement.binding == way_of(nodes[placement.node])
            for uuid in placement.uuids:
                on.setdefault(uuid, []).append(placement)
        for uuid, placements in on.items():
            promised += len(placements)
            taken = sum(d.memory_mb for p in placements for d in p.devices if d.uuid == uuid)
            assert taken <= cards[uuid].free_mb, (uuid, placements)
            assert granted(nodes[uuid.partition("-")[0]], uuid, placements), (uuid, placements)
    assert promised > CASES


def test_sharing_is_said_only_of_cards_that_are_shared() -> None:
    """A Model whose placement says that it shares is granted beside others."""
    chance = random.Random(19)
    for _ in range(CASES):
        nodes, cards = a_cluster(chance)
        models = settled(chance, nodes, cards)
        for model in models:
            placement = model.status.placement
            if placement is None or not placement.shared or not model.is_true("Placed"):
                continue
            node = nodes[placement.node]
            sliced = node.allocatable.get("nvidia.com/gpu", 0) > 2000
            parts = all(device.shared for device in node.dra) and all(d.memory_mb for d in placement.devices)
            assert sliced or node.runtime_classes or (node.dra and parts)
