"""A holder makes room for another Model: what is read again before it is written, and what is in the SharedGroup then."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, SharedGroup
from flexinfer.arbiter.effects import Grant, Preempt
from flexinfer.arbiter.perform import perform
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_group
from tests.runtimes import a_runtime
from tests.unit.arbiter.cards import Card
from tests.unit.arbiter.groups import IDLE, WANTED, decided, messages, requeues
from tests.unit.launcher.world import World

LEFT = (*WANTED, ("Ready", "False", Reason.STOPPED))


def world_of(card: Card) -> World:
    """Return a world that holds the card's SharedGroup and Models."""
    world = World()
    world.put("sharedgroups", msgspec.to_builtins(card.group()))
    for model in card.models:
        world.put("models", msgspec.to_builtins(model))
    return world


def the_group(world: World) -> SharedGroup:
    """Return the SharedGroup as the API holds it."""
    return msgspec.convert(world.find("sharedgroups", "card"), SharedGroup)


async def performed(world: World, action: Any, observed: ObservedState) -> None:
    """Perform an effect, with what was observed last."""
    telemetry = Telemetry()
    telemetry.observe(observed, None)
    await perform(a_runtime("arbiter", cluster=world, clock=lambda: NOW + 1), action, telemetry=telemetry)


def decided_on(state: ObservedState, kind: type) -> Any:
    """Return the one effect of a kind that is decided."""
    [effect] = [action for action in decided(state, NOW + 1) if isinstance(action, kind)]
    return effect


def full() -> Card:
    """Return a card with an idle holder, and a Model that a request waits for and that has no room beside it."""
    card = Card()
    card.holds("coder", 14_000)
    card.waits("image", 12_288)
    return card


async def test_a_holder_that_makes_room_says_for_whom() -> None:
    """Its turn is Releasing, and the room is noted as made for the other."""
    card = full()
    state, world = card.observed(), world_of(card)
    await performed(world, decided_on(state, Preempt), state)
    status = the_group(world).status
    [holder] = status.holders
    assert (holder.step, holder.preempted_by, holder.reason) == (RELEASING, "image", "it is idle")
    assert status.room_for == "uid-image"
    card.holds("coder", 14_000, step=RELEASING)
    card.preempted_by = {"coder": "image"}
    assert messages(card.observed(), NOW + 1)["default/coder"] == (
        "makes room for image: it is idle; the next request queues it again"
    )


async def test_a_holder_that_got_a_request_meanwhile_stays() -> None:
    """A request in the moment of a release is served: its traffic is looked at again before the write."""
    card = full()
    action, world = decided_on(card.observed(), Preempt), world_of(card)
    card.serves("coder")
    await performed(world, action, card.observed())
    assert the_group(world).status.holders[0].step == GRANTED


async def test_none_leaves_for_a_model_that_does_not_need_the_devices_any_more() -> None:
    """It is read again."""
    card = full()
    state = card.observed()
    card.waits("image", 12_288, IDLE)
    world = world_of(card)
    await performed(world, decided_on(state, Preempt), state)
    assert the_group(world).status.holders[0].step == GRANTED


@pytest.mark.parametrize(
    ("room_for", "conditions", "away"),
    [("uid-image", LEFT, 1), ("uid-image", WANTED, None), ("", LEFT, None)],
    ids=["came back", "never left", "no room was made"],
)
async def test_a_model_that_room_was_made_for_is_granted_as_such(
    room_for: str, conditions: Any, away: int | None
) -> None:
    """With how long it was away: by that it stays when it is idle; the note is gone with it."""
    card = Card()
    card.room_for = room_for
    card.waits("image", 12_288, conditions)
    card.serves("image")
    state, world = card.observed(), world_of(card)
    await performed(world, decided_on(state, Grant), state)
    status = the_group(world).status
    assert (status.holders[0].made_room, status.room_for) == (bool(room_for), "")
    assert status.holders[0].away_seconds == away
    assert (status.budget_mb, status.held_mb, status.holder_names) == (24_064, 12_288, "image")


async def test_nothing_is_granted_beside_what_was_granted_meanwhile() -> None:
    """The SharedGroup is read again, and judged with it (reliability G5)."""
    card = Card()
    card.waits("image", 12_288)
    state = card.observed()
    card.holds("coder", 14_000)
    world = world_of(card)
    await performed(world, decided_on(state, Grant), card.observed())
    assert [holder.model for holder in the_group(world).status.holders] == ["coder"]


def test_a_model_that_had_to_leave_keeps_its_reason() -> None:
    """No request waits for it: nothing is written about it."""
    card = Card()
    preempted = ("Granted", "False", Reason.PREEMPTED)
    card.waits("a", 8_000, ("Accepted", "Placed", "Cached", ("Wanted", "True", Reason.ACTIVE), preempted))
    assert messages(card.observed(), NOW + 1) == {"default/a": ""}


@pytest.mark.parametrize(("stay", "after"), [("0s", 30.0), ("50s", 50.0)])
def test_a_holder_whose_pod_is_rejected_leaves_for_one_of_the_same_priority_after_a_while(
    stay: str, after: float
) -> None:
    """One that always runs is tried again without end, and would keep the device from all others; two of them take turns, but not at each try."""
    card = Card(group=with_stay(stay))
    card.holds("coder", 14_000, loading=True, reason=Reason.CREATE_REFUSED, serverless={"enabled": False})
    card.waits("image", 12_288, serverless={"enabled": False})
    state = card.observed()
    assert preempts(state, after - 0.1) == []
    assert (
        "coder stays: its Pod is rejected, and tried again"
        in messages(state, NOW + after - 0.1)["default/image"]
    )
    assert NOW + after in requeues(state, NOW + after - 0.1)
    assert preempts(state, after) == ["its Pod is rejected"]
    higher = Card(group=with_stay(stay))
    higher.holds("coder", 14_000, loading=True, reason=Reason.CREATE_REFUSED, priority=200)
    higher.waits("image", 12_288, serverless={"enabled": False})
    assert preempts(higher.observed(), after) == []


def with_stay(stay: str) -> SharedGroup:
    """Return the SharedGroup of the card with a minStay."""
    group = a_group()
    return msgspec.structs.replace(group, spec=msgspec.structs.replace(group.spec, min_stay=stay))


def preempts(state: ObservedState, seconds: float) -> list[str]:
    """Return why holders are made to leave."""
    return [action.reason for action in decided(state, NOW + seconds) if isinstance(action, Preempt)]
