"""ResourceClaims of other users: a card that one has is not a Model's, and of a shared card what it was promised is not free (G20)."""

import random
from typing import Any

import msgspec
import pytest

from flexinfer.api.model import Gpu
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceClaim, DeviceProcess, NodeFacts
from flexinfer.state.actions import WriteStatus
from tests.builders import NOW, a_pod, a_state, running
from tests.unit.placer.test_binding import FIRST, GIB, SECOND, a_box, by_dra
from tests.unit.placer.test_decide import CARD, a_new, a_placed, later, node, only_write, placement_of
from tests.unit.placer.test_memory import becomes_wanted, written

LARGE = Gpu(vendor="nvidia", vram_estimate_mb=16000)
MIB = 2**20


def a_claim(device: Device = FIRST, **facts: Any) -> DeviceClaim:
    """Return the claim of another user for a card."""
    return DeviceClaim(**({"name": "lab/notebook", "uuid": device.uuid} | facts))


def a_part(memory: int, **facts: Any) -> DeviceClaim:
    """Return the claim of another user for so many GiB of a card."""
    return a_claim(shared=True, memory=memory * GIB, **facts)


def placed_beside(*claims: DeviceClaim, card: Device = FIRST, gpu: Gpu = LARGE) -> WriteStatus:
    """Return the status of a new Model where claims of others have a card that several claims may have."""
    return only_write(*a_box(card, dra=by_dra(card, shared=True), device_claims=claims), a_new(gpu=gpu))


def with_process(used: int, **facts: Any) -> Device:
    """Return a card with one process on it."""
    known: dict[str, Any] = {"pid": 7, "used_mb": used, "name": "python3", "started": 1}
    process = DeviceProcess(**(known | facts))
    free = FIRST.total_mb - used
    return msgspec.structs.replace(FIRST, processes=(process,), free_mb=free, used_mb=used)


def test_a_card_of_another_users_claim_is_refused_by_the_name_of_the_claim() -> None:
    """No memory of it is in use yet: its Pod has just been bound."""
    box = a_box(FIRST, dra=by_dra(FIRST), device_claims=(a_claim(),))
    write = only_write(*box, a_new(gpu=CARD))
    assert write.condition.reason == Reason.NO_NODE_FITS
    assert "is allocated to ResourceClaim lab/notebook" in write.condition.message
    assert "Remedy: delete the Pod that uses it" in write.condition.message


def test_a_card_of_which_a_claim_has_a_part_is_refused_too() -> None:
    """Whatever way its node gives cards: one that is divided cannot be used whole."""
    box = a_box(FIRST, plugin={"nvidia.com/gpu": 1000}, device_claims=(a_claim(part=True),))
    write = only_write(*box, a_new(gpu=CARD))
    assert write.condition.reason == Reason.NO_NODE_FITS
    assert "is allocated to ResourceClaim lab/notebook (a part of it)" in write.condition.message


def test_a_model_gets_the_other_card() -> None:
    """Also where the driver names the card by its PCI address."""
    small = Gpu(vendor="nvidia", vram_estimate_mb=5000)
    for claim in (a_claim(SECOND), a_claim(SECOND, uuid="", pci=SECOND.pci.upper())):
        box = a_box(FIRST, SECOND, dra=by_dra(FIRST, SECOND), device_claims=(claim,))
        assert placement_of(only_write(*box, a_new(gpu=small))).uuids == (FIRST.uuid,)


def test_a_cold_start_leaves_a_card_that_was_claimed_since() -> None:
    """G2: what was free at the last start is looked at again."""
    free, (other, sample) = a_box(FIRST, dra=by_dra(FIRST)), a_box(SECOND, dra=by_dra(SECOND))
    other = msgspec.structs.replace(other, name="b")
    sample = msgspec.structs.replace(sample, node="b")
    idle = a_placed(gpu=Gpu(vendor="nvidia", vram_estimate_mb=5000), wanted=False, devices=(FIRST.uuid,))
    taken = msgspec.structs.replace(free[0], device_claims=(a_claim(),), version=9)
    state = becomes_wanted(a_state(*free, other, sample, idle), idle, NOW + 1)
    state = later(state, NOW + 2, events.NodeObserved(name="a", node=taken), free[1], sample)
    assert node(written(state, NOW + 2)) == "b"


PARTS = [
    pytest.param(FIRST, (a_part(4),), True, id="room for both"),
    pytest.param(FIRST, (a_part(10),), False, id="promised, not used yet"),
    pytest.param(FIRST, (a_part(4), a_part(4, name="lab/two")), False, id="two claims"),
    pytest.param(FIRST, (a_part(4), a_part(4)), False, id="two parts of one claim"),
    pytest.param(with_process(8000, pod_uid="p"), (a_part(8, pods=("p",)),), True, id="used as promised"),
    pytest.param(with_process(9000, pod_uid="p"), (a_part(4, pods=("p",)),), False, id="more than promised"),
    pytest.param(with_process(8000), (a_part(4),), False, id="a process of no Pod beside it"),
    pytest.param(with_process(6000, started=0), (a_part(6),), True, id="a process that is not known"),
    pytest.param(with_process(1000, started=0), (a_part(10),), False, id="promised, beside one that is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("card", "claims", "fits"), PARTS)
def test_of_a_shared_card_what_a_claim_was_promised_is_not_free(
    card: Device, claims: tuple[DeviceClaim, ...], *, fits: bool
) -> None:
    """16000 MiB of 24576: the scheduler counts the same, and the Pod would wait. What its Pod uses already is not counted twice."""
    assert placed_beside(*claims, card=card).condition.true == fits


def test_a_claim_that_leaves_too_little_is_named() -> None:
    """With what it was promised; it takes turns with no other."""
    message = placed_beside(a_part(10)).condition.message
    assert "has 13760 MiB of 24576 MiB free (ResourceClaim lab/notebook 10240 MiB" in message
    assert "Remedy: delete the Pod that uses ResourceClaim lab/notebook, or lower" in message


def test_a_model_that_needs_a_card_whole_does_not_share_it() -> None:
    """One of unknown size requests no part."""
    write = placed_beside(a_part(1), gpu=Gpu(vendor="nvidia"))
    assert "is allocated to ResourceClaim lab/notebook" in write.condition.message


def test_a_claim_that_a_models_pod_uses_is_that_models() -> None:
    """The scheduler makes claims for an extended resource, which have none of our labels."""
    own = a_placed("other", gpu=Gpu(vendor="nvidia", vram_estimate_mb=4000), devices=(FIRST.uuid,))
    claim = a_part(4, name="default/other-0-x", pods=(a_pod(own).uid,))
    box = a_box(FIRST, dra=by_dra(FIRST, shared=True), device_claims=(claim,))
    write = only_write(
        *box, own, running(own, a_pod(own)), a_new(gpu=Gpu(vendor="nvidia", vram_estimate_mb=22000))
    )
    assert "default/other 8000 MiB" in write.condition.message
    assert "ResourceClaim" not in write.condition.message


def a_cluster(chance: random.Random) -> dict[str, tuple[NodeFacts, events.GpusObserved]]:
    """Return nodes with a card or two each, some of which claims of others have."""
    nodes = {}
    for name in ("a", "b", "c")[: chance.randint(1, 3)]:
        cards = tuple(
            Device(uuid=f"{name}-{n}", total_mb=24000, free_mb=chance.choice([8000, 16000, 24000]))
            for n in range(chance.randint(1, 2))
        )
        shared = chance.random() < 0.7
        claims = tuple(
            DeviceClaim(name=f"lab/{n}", uuid=card.uuid, shared=shared, memory=chance.choice([1, 4000, 12000]) * MIB * shared)
            for n in range(chance.randint(0, 2))
            for card in cards
            if chance.random() < 0.5 and (shared or not n)
        )  # fmt: skip
        dra = by_dra(*cards, shared=shared, memory=24000 * MIB)
        facts, sample = a_box(*cards, dra=dra, device_claims=claims)
        nodes[name] = (
            msgspec.structs.replace(facts, name=name),
            msgspec.structs.replace(sample, node=name),
        )
    return nodes


def room(facts: NodeFacts, card: Device) -> int:
    """Return what is free of a card by the rules, in MiB: no process is seen, so all that was promised is still to come."""
    claims = [claim for claim in facts.device_claims if claim.uuid == card.uuid]
    if any(not claim.shared for claim in claims):
        return 0
    return card.free_mb - sum(claim.memory for claim in claims) // MIB


def test_the_choice_beside_claims_of_others_is_allowed_and_nothing_allowed_is_better() -> None:
    """By the tightest fit in what is left, then by name; refused only where nothing is left."""
    chance, placed = random.Random(21), 0
    for _ in range(1500):
        nodes, need = a_cluster(chance), chance.choice([3000, 7000, 13000])
        model = a_new(gpu=Gpu(vendor="nvidia", vram_estimate_mb=need))
        write = only_write(*(part for pair in nodes.values() for part in pair), model)
        options = [
            (left - need, name, card.uuid)
            for name, (facts, sample) in nodes.items()
            for card in sample.devices
            if (left := room(facts, card)) >= need
        ]
        assert write.condition.true == bool(options), (write.condition.message, options)
        if options:
            placed += 1
            assert (node(write), *placement_of(write).uuids) == min(options)[1:]
    assert placed > 500
