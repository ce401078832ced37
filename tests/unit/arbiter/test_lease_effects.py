"""Effects on leases in a small world: what is read again, what the lease's status says, and what a new SharedGroup takes over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from flexinfer.api.lease import GPULease
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, SharedGroup
from flexinfer.arbiter.effects import (
    Advance,
    CheckLeaseExpiry,
    Effect,
    Grant,
    GrantLease,
    Initialize,
    WriteLeaseStatus,
)
from flexinfer.arbiter.perform import perform
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import ConflictError
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_group, a_lease
from tests.runtimes import a_runtime
from tests.unit.arbiter.cards import Card
from tests.unit.arbiter.groups import decided
from tests.unit.arbiter.test_leases import an_entry, granted, observed
from tests.unit.launcher.world import World

AT = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)


def a_world(*objects: GPULease | SharedGroup) -> World:
    """Return a world that holds these objects."""
    world = World()
    for thing in objects:
        world.put("gpuleases" if isinstance(thing, GPULease) else "sharedgroups", msgspec.to_builtins(thing))
    return world


def the_lease(world: World, name: str = "game") -> GPULease:
    """Return a lease as the API holds it."""
    return msgspec.convert(world.find("gpuleases", name), GPULease)


def the_group(world: World) -> SharedGroup:
    """Return the SharedGroup as the API holds it."""
    return msgspec.convert(world.find("sharedgroups", "card"), SharedGroup)


async def performed(
    world: World, action: Effect, state: ObservedState | None = None, at: datetime = AT
) -> list[Any]:
    """Perform an effect at a wall-clock time, with what was observed last."""
    telemetry = Telemetry()
    telemetry.observe(state or ObservedState(), None)
    runtime = a_runtime("arbiter", cluster=world, clock=lambda: NOW + 1, utc_now=lambda: at)
    return list(await perform(runtime, action, telemetry=telemetry))


def effect(state: ObservedState, kind: type, seconds: float = 1.0) -> Any:
    """Return the one effect of a kind that is decided."""
    [found] = [action for action in decided(state, NOW + seconds) if isinstance(action, kind)]
    return found


def as_read(world: World, card: Card) -> ObservedState:
    """Return what is observed of a card, with the group and the leases of the world."""
    state = observed(card)
    found: list[AnyEvent] = [events.GroupObserved(group=the_group(world)), card.sample()]
    found += [events.LeaseObserved(lease=the_lease(world))] if world.find("gpuleases", "game") else []
    return apply_events(state, [Observation(event, NOW + 1) for event in found])


def on_a_card() -> Card:
    """Return a card on which a small Model is placed that nothing waits for."""
    card = Card()
    card.waits("chat", 1_000, ("Accepted", "Placed"))
    return card


async def test_a_grant_writes_the_entry_of_the_lease() -> None:
    """With its memory on the card, and the next turn."""
    card, lease = on_a_card(), a_lease(spec={"memory_mb": 8_000})
    world = a_world(card.group(), lease)
    state = as_read(world, card)
    await performed(world, effect(state, GrantLease), state)
    [holder] = the_group(world).status.holders
    assert (holder.model, holder.lease, holder.uid, holder.step) == ("", "game", lease.uid, GRANTED)
    assert (holder.node, holder.devices[0].memory_mb, the_group(world).status.holder_names) == (
        "a",
        8_000,
        "lease game",
    )


async def test_a_lease_of_the_whole_card_gets_what_is_left_of_it() -> None:
    """Less what others use, and the reserve."""
    card = on_a_card()
    card.foreign_mb = 1_500
    world = a_world(card.group(), a_lease())
    state = as_read(world, card)
    await performed(world, effect(state, GrantLease), state)
    [holder] = the_group(world).status.holders
    assert holder.devices[0].memory_mb == 24_576 - 512 - 1_500


async def test_a_lease_that_was_given_back_meanwhile_is_not_granted() -> None:
    """It is read again."""
    card = on_a_card()
    world = a_world(card.group(), a_lease(spec={"memory_mb": 8_000}))
    state = as_read(world, card)
    del world.things["gpuleases", "default", "game"]
    replies = await performed(world, effect(state, GrantLease), state)
    assert the_group(world).status.holders == ()
    assert any(isinstance(reply, events.LeaseDeleted) for reply in replies)


async def test_a_lease_is_told_until_when_by_the_clock_of_the_write() -> None:
    """And how long that is yet is observed, without another read."""
    card, world = on_a_card(), a_world(a_group(an_entry(), version=100), a_lease(spec={"memory_mb": 8_000}))
    replies = await performed(world, effect(as_read(world, card), WriteLeaseStatus))
    status = the_lease(world).status
    assert (status.since, status.expires_at) == ("2026-11-24T20:00:00Z", "2026-11-24T22:00:00Z")
    condition = the_lease(world).condition()
    assert condition is not None
    assert condition.message == "turn 9 of group card: 8000 MiB of GPU-1 until 2026-11-24T22:00:00Z"
    assert [r.remaining_seconds for r in replies if isinstance(r, events.LeaseTimed)] == [7_200.0]


async def test_a_lease_is_not_told_of_a_turn_that_it_has_no_longer() -> None:
    """The group is read before each word to its owner."""
    card, world = on_a_card(), a_world(a_group(an_entry(), version=100), a_lease(spec={"memory_mb": 8_000}))
    action = effect(as_read(world, card), WriteLeaseStatus)
    world.group(a_group(an_entry(step=RELEASING), version=101))
    await performed(world, action)
    assert not the_lease(world).granted


async def test_a_lease_that_was_written_meanwhile_is_decided_on_again() -> None:
    """Also one written between the read and the write: the resourceVersion is that of the read."""
    card, world = on_a_card(), a_world(a_group(an_entry(), version=100), a_lease(spec={"memory_mb": 8_000}))
    action = effect(as_read(world, card), WriteLeaseStatus)

    def changed(call: str) -> None:
        if call == "replace gpuleases":
            world.between = lambda _call: None
            world.touch("gpuleases", "game", lambda thing: thing["spec"].update(reason="other"))

    world.between = changed
    with pytest.raises(ConflictError):
        await performed(world, action)
    await performed(world, action)
    assert not the_lease(world).granted


@pytest.mark.parametrize(("minutes", "step"), [(119, GRANTED), (120, RELEASING)])
async def test_the_end_of_a_lease_is_decided_by_the_wall_clock(minutes: int, step: str) -> None:
    """The monotonic clock only tells when to look: a process that slept would end a lease too early, or too late."""
    world = a_world(a_group(an_entry(), version=100), granted())
    [holder] = the_group(world).status.holders
    action = Advance(group=the_group(world), holder=holder, step=RELEASING, reason=LeaseReason.EXPIRED)
    replies = await performed(world, action, at=AT + timedelta(minutes=minutes))
    assert the_group(world).status.holders[0].step == step
    assert any(isinstance(reply, events.LeaseTimed) for reply in replies)


async def test_how_long_a_lease_lasts_is_looked_up() -> None:
    """For the end that its status names."""
    card, world = on_a_card(), a_world(a_group(an_entry(), version=100), granted())
    replies = await performed(
        world, effect(as_read(world, card), CheckLeaseExpiry), at=AT + timedelta(hours=1)
    )
    [timed] = [reply for reply in replies if isinstance(reply, events.LeaseTimed)]
    assert (timed.remaining_seconds, timed.expires_at) == (3_600.0, "2026-11-24T22:00:00Z")


async def test_a_lease_is_not_stopped_before_its_status_says_that_it_is_over() -> None:
    """It is read again before that step too."""
    world = a_world(a_group(an_entry(step=RELEASING, reason=LeaseReason.EXPIRED), version=100), granted())
    [holder] = the_group(world).status.holders
    action = Advance(group=the_group(world), holder=holder, step=STOPPED, reason=holder.reason)
    await performed(world, action)
    assert the_group(world).status.holders[0].step == RELEASING
    world.put("gpuleases", msgspec.to_builtins(a_lease(told=LeaseReason.EXPIRED, status={"turn": 9})))
    await performed(world, action)
    assert the_group(world).status.holders[0].step == STOPPED


async def test_a_lease_that_was_granted_holds_its_memory_again_in_a_new_object() -> None:
    """With its turn; one that waits, or is over, does not."""
    devices = an_entry().devices
    world = a_world(
        a_group(initialized=False),
        granted(status={"devices": devices}),
        a_lease("train"),
        a_lease("old", told=LeaseReason.EXPIRED, status={"turn": 12}),
    )
    await performed(world, Initialize(group=the_group(world), models=(), highest_turn=3))
    status = the_group(world).status
    [holder] = status.holders
    assert (holder.lease, holder.turn, holder.step, holder.devices) == ("game", 9, GRANTED, devices)
    assert status.turn >= 12


async def test_a_paused_arbiter_cannot_tell_a_lease_of_the_object_before() -> None:
    """Every lease is written before a new object is initialised: what was read earlier has an old resourceVersion."""
    card, world = on_a_card(), a_world(a_group(an_entry(), version=100), a_lease(spec={"memory_mb": 8_000}))
    action = effect(as_read(world, card), WriteLeaseStatus)
    former = the_group(world)
    world.group(a_group(initialized=False, uid="another"))
    await performed(world, Initialize(group=the_group(world), models=(), highest_turn=0))
    assert the_lease(world).status.shared_group == "another"
    world.put("sharedgroups", msgspec.to_builtins(former))
    await performed(world, action)
    assert not the_lease(world).granted


async def test_what_a_lease_uses_at_a_grant_is_not_in_use_before_it() -> None:
    """It may end before the Model leaves, whose memory would then count as free for as much."""
    card = Card()
    card.foreign_mb = 8_000
    card.waits("chat", 1_000)
    entry = an_entry()
    state = observed(card, granted(), entry=entry)
    world = World()
    world.group(state.groups["default/card"])
    for model in card.models:
        world.put("models", msgspec.to_builtins(model))
    action = msgspec.structs.replace(effect(state, Grant), group=the_group(world))
    await performed(world, action, state)
    _, chat = the_group(world).status.holders
    [device] = chat.devices
    assert (device.used_before_mb, device.other_processes) == (0, ())
