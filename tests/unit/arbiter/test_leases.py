"""Leases in a group: who is granted before whom, who leaves, what its status says, and when it ends."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexinfer.api.lease import GPULease
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.placement import Placement
from flexinfer.api.sharedgroup import (
    GRANTED,
    RELEASING,
    STOPPED,
    GroupDevice,
    GroupProcess,
    HeldDevice,
    Holder,
    SharedGroup,
    SharedGroupSpec,
)
from flexinfer.arbiter.effects import CheckLeaseExpiry, GrantLease, Preempt, WriteLeaseStatus
from flexinfer.events import events
from flexinfer.state.observed import STALE_SECONDS, ObservedState
from tests.builders import NOW, a_group, a_lease, a_node, a_state
from tests.unit.arbiter.cards import TOTAL_MB, Card
from tests.unit.arbiter.groups import IDLE, blocked, decided, held, later, member, messages, requeues, steps

BUDGET_MB = TOTAL_MB - 512
END = "2026-11-24T22:00:00Z"
TOLD = {"turn": 9, "since": "2026-11-24T20:00:00Z", "expires_at": END, "node": "a"}


def an_entry(memory_mb: int = 8_000, step: str = GRANTED, name: str = "game", **facts: Any) -> Holder:
    """Return the entry of a lease on the card."""
    devices = (HeldDevice(uuid="GPU-1", memory_mb=memory_mb, **facts.pop("device", {})),)
    return Holder(lease=name, uid=f"uid-lease-{name}", turn=9, step=step, node="a", devices=devices, **facts)


def observed(
    card: Card, *leases: GPULease, entry: Holder | None = None, seconds: float = 1.0
) -> ObservedState:
    """Return what is observed of a card, with leases, and the entry of one of them."""
    state = later(card.observed(seconds), NOW + seconds, *leases)
    if entry is None:
        return state
    group = card.group()
    status = msgspec.structs.replace(group.status, holders=(*group.status.holders, entry), turn=9)
    meta = msgspec.structs.replace(group.metadata, resource_version="200")
    state = later(state, NOW + seconds, msgspec.structs.replace(group, metadata=meta, status=status))
    return later(state, NOW + seconds, events.ProxyObserved(proxy="p"), card.sample())


def granted(memory_mb: int | None = 8_000, **changes: Any) -> GPULease:
    """Return a lease whose status says Granted of the entry."""
    status = {"shared_group": "uid-group-card", "observed_generation": 1, **TOLD}
    return a_lease(
        told=LeaseReason.GRANTED,
        status={**status, **changes.pop("status", {})},
        spec={"memory_mb": memory_mb},
        **changes,
    )


def told(state: ObservedState, seconds: float = 1.0) -> dict[str, tuple[str, str]]:
    """Return name -> (reason, message) of each status of a lease that is written."""
    written = [action for action in decided(state, NOW + seconds) if isinstance(action, WriteLeaseStatus)]
    return {
        a.lease.metadata.name: (a.status.conditions[0].reason, a.status.conditions[0].message)
        for a in written
    }


def leavers(state: ObservedState, seconds: float = 1.0) -> set[str]:
    """Return who is made to leave."""
    return {action.holder.label for action in decided(state, NOW + seconds) if isinstance(action, Preempt)}


def test_a_lease_that_fits_beside_the_holders_is_granted_at_once() -> None:
    """No holder leaves for it."""
    card = Card()
    card.holds("chat", 8_192)
    state = observed(card, a_lease(spec={"memory_mb": 8_000}))
    assert steps(state, NOW + 1) == [("Grant", "lease game")]
    assert leavers(state) == set()


def test_holders_that_must_leave_are_drained_and_the_others_stay() -> None:
    """The cheapest set, as for a Model: the idle one, not the one that serves. The lease's message names what it waits for."""
    card = Card()
    card.holds("chat", 8_192)
    card.holds("coder", 14_000)
    card.serves("chat")
    state = observed(card, a_lease(spec={"memory_mb": 12_000}))
    assert leavers(state) == {"coder"}
    assert steps(state, NOW + 1) == []
    reason, message = told(state)["game"]
    assert (reason, message) == (
        LeaseReason.QUEUED,
        "position 1 of 1 in group card; holders: chat, coder; until coder has released its memory",
    )


def test_a_lease_of_the_whole_card_makes_all_leave_for_whatever_they_do() -> None:
    """Its priority is above theirs; and nothing is beside it."""
    card = Card()
    card.holds("chat", 8_192)
    card.serves("chat")
    assert leavers(observed(card, a_lease())) == {"chat"}
    alone = Card()
    alone.waits("chat", 1_000)
    state = observed(alone, granted(None), entry=an_entry(BUDGET_MB))
    assert steps(state, NOW + 1) == []
    assert "lease game takes the whole of the GPUs" in messages(state, NOW + 1)["default/chat"]


def test_a_holder_of_a_higher_priority_that_serves_stays() -> None:
    """And the message says so."""
    card = Card()
    card.holds("chat", 14_000, priority=200)
    card.serves("chat")
    state = observed(card, a_lease(spec={"memory_mb": 12_000, "priority": 100}))
    assert leavers(state) == set()
    assert "chat stays: it is in use at priority 200, above 100" in told(state)["game"][1]


@pytest.mark.parametrize(("priority", "first"), [(1000, "lease game"), (100, "lease game"), (99, "chat")])
def test_at_the_same_priority_a_lease_goes_first(priority: int, first: str) -> None:
    """Else the priorities decide, as among Models."""
    card = Card()
    card.waits("chat", 14_000)
    state = observed(card, a_lease(spec={"memory_mb": 14_000, "priority": priority}))
    assert steps(state, NOW + 1) == [("Grant", first)]


def test_a_lease_is_never_made_to_leave() -> None:
    """Whatever the priority of the Model that waits; its message says until when, by the lease's own time."""
    card = Card()
    card.waits("chat", 20_000, priority=1000)
    state = observed(card, granted(), entry=an_entry())
    assert leavers(state) == set()
    text = messages(state, NOW + 1)["default/chat"]
    assert f"holder: lease game; needs 20000 of {BUDGET_MB} MiB" in text
    assert f"lease game stays: a lease is not made to leave; it has the GPUs until {END}" in text


def test_the_process_of_a_lease_counts_against_its_memory() -> None:
    """Only beyond it is it memory of others, and only if it came since the grant."""
    card = Card()
    card.foreign_mb = 8_000
    card.waits("chat", 16_000)
    assert steps(observed(card, granted(), entry=an_entry()), NOW + 1) == [("Grant", "chat")]
    card.foreign_mb = 9_000
    assert steps(observed(card, granted(), entry=an_entry()), NOW + 1) == []
    card.foreign_mb = 8_000
    before = {"other_processes": (GroupProcess(pid=99, name="game"),)}
    assert steps(observed(card, granted(), entry=an_entry(device=before)), NOW + 1) == []


def test_two_leases_never_hold_one_card() -> None:
    """Which process is whose could not be told."""
    card = Card()
    card.holds("chat", 1_000)
    state = observed(card, a_lease("train", spec={"memory_mb": 1_000}), granted(), entry=an_entry())
    assert steps(state, NOW + 1) == []
    assert "which process is of which lease cannot be told" in told(state)["train"][1]


def test_a_lease_takes_no_room_that_is_kept_for_one_before_it() -> None:
    """Beside it the first could not be granted, however much is left."""
    card = Card()
    card.holds("chat", 14_000, step=RELEASING)
    first = a_lease("train", spec={"memory_mb": 16_000, "priority": 1000})
    state = observed(card, first, a_lease("game", spec={"memory_mb": 1_000, "priority": 500}))
    assert steps(state, NOW + 1) == []
    assert (
        "room is kept for lease train: one holder at a time: lease train comes first"
        in told(state)["game"][1]
    )


def test_a_lease_is_told_what_it_got_once_its_entry_says_granted() -> None:
    """Until when is added by the clock of the write."""
    state = observed(Card(), a_lease(spec={"memory_mb": 8_000}), entry=an_entry())
    [tells] = [action for action in decided(state, NOW + 1) if isinstance(action, WriteLeaseStatus)]
    assert (tells.status.turn, tells.status.node, tells.status.devices[0].memory_mb) == (9, "a", 8_000)
    assert tells.status.conditions[0].true
    assert (tells.status.since, tells.status.expires_at) == ("", "")


def test_when_a_lease_ends_is_asked_of_the_wall_clock_and_again_every_minute() -> None:
    """A machine that slept has another monotonic clock than the one on the wall."""
    state = observed(Card(), granted(), entry=an_entry())
    assert any(isinstance(action, CheckLeaseExpiry) for action in decided(state, NOW + 1))
    state = later(state, NOW + 1, timed(3_600.0))
    assert not any(isinstance(action, CheckLeaseExpiry) for action in decided(state, NOW + 2))
    assert NOW + 61 in requeues(state, NOW + 2)
    assert any(isinstance(action, CheckLeaseExpiry) for action in decided(state, NOW + 61))


def timed(seconds: float, expires_at: str = END) -> events.LeaseTimed:
    """Return that a lease lasts so long yet."""
    return events.LeaseTimed(
        namespace="default",
        name="game",
        uid="uid-lease-game",
        expires_at=expires_at,
        remaining_seconds=seconds,
    )


def test_a_lease_that_is_over_must_leave() -> None:
    """At its end; not at an end that it had before its duration was changed."""
    state = later(observed(Card(), granted(), entry=an_entry()), NOW + 1, timed(5.0))
    assert steps(state, NOW + 2) == []
    assert steps(state, NOW + 6) == [("Advance", RELEASING)]
    changed = later(
        observed(Card(), granted(), entry=an_entry()), NOW + 1, timed(5.0, "2026-11-24T21:00:00Z")
    )
    assert steps(changed, NOW + 6) == []


def test_a_longer_duration_is_told_with_its_new_end() -> None:
    """And a shorter one."""
    lease = granted()
    longer = msgspec.structs.replace(lease, spec=msgspec.structs.replace(lease.spec, duration="3h"))
    state = observed(Card(), longer, entry=an_entry())
    [tells] = [action for action in decided(state, NOW + 1) if isinstance(action, WriteLeaseStatus)]
    assert tells.status.expires_at == "2026-11-24T23:00:00Z"


def test_a_lease_stops_only_once_it_was_told_that_it_is_over() -> None:
    """Its owner reads nothing but its status. One that was deleted needs no word."""
    entry = an_entry(step=RELEASING, reason=LeaseReason.EXPIRED)
    state = observed(Card(), granted(), entry=entry)
    assert steps(state, NOW + 1) == []
    assert told(state)["game"] == (
        LeaseReason.EXPIRED,
        "turn 9 has ended: its time of 2h is over; end its processes, and take another lease to continue",
    )
    over = a_lease(told=LeaseReason.EXPIRED, status=TOLD)
    assert steps(observed(Card(), over, entry=entry), NOW + 1) == [("Advance", STOPPED)]
    assert steps(observed(Card(), entry=entry), NOW + 1) == [("Advance", STOPPED)]


def test_a_lease_that_is_deleted_gives_its_memory_back() -> None:
    """At once; it has no finalizer: a person must be able to end it while nothing of ours runs."""
    assert steps(observed(Card(), entry=an_entry()), NOW + 1) == [("Advance", RELEASING)]


@pytest.mark.parametrize("reason", [LeaseReason.EXPIRED, LeaseReason.RELEASED])
def test_a_lease_that_was_told_its_end_is_never_granted_again(reason: LeaseReason) -> None:
    """One lease, one turn."""
    state = observed(Card(), a_lease(told=reason, status=TOLD))
    assert steps(state, NOW + 1) == []
    assert told(state) == {}


def stopped(card: Card, after: float = 2.0) -> ObservedState:
    """Return the state in which a lease that was deleted is Stopped, with a sample from after that."""
    state = observed(card, entry=an_entry(step=STOPPED, reason="its GPULease was deleted"))
    return later(state, NOW + after, events.ProxyObserved(proxy="p"), card.sample())


def test_the_process_of_a_lease_that_is_over_blocks_the_group_and_is_named() -> None:
    """It is not ended; once it is gone the memory is free."""
    card = Card()
    card.foreign_mb = 8_000
    state = stopped(card)
    assert ("Advance", "Freed") not in steps(state, NOW + 2)
    found = blocked(state, NOW + 2)
    assert found is not None
    assert found[0] == "MemoryInUse"
    assert (
        "lease game is over, but memory that came with it is still in use on node a: GPU-1 (process 99 game)"
        in found[1]
    )
    card.foreign_mb = 0
    assert ("Advance", "Freed") in steps(stopped(card), NOW + 2)


def test_the_game_of_a_lease_does_not_keep_the_memory_of_a_model_that_leaves() -> None:
    """It is in no Pod."""
    card = Card()
    card.foreign_mb = 8_000
    card.holds("chat", 8_192, step=STOPPED, used_mb=0)
    state = later(observed(card, granted(), entry=an_entry()), NOW + 2, card.sample())
    assert ("Advance", "Freed") in steps(state, NOW + 2)


def test_the_process_of_a_lease_does_not_take_the_room_that_is_kept_for_another() -> None:
    """It comes back with the lease, as memory of a Model that has left does, and counts once."""
    card = Card()
    card.foreign_mb, card.late_mb = 8_000, 5_000
    card.holds("chat", 5_000, step=STOPPED, used_mb=0)
    card.waits("large", 20_000, priority=200)
    card.waits("small", 6_000)
    over = a_lease(told=LeaseReason.EXPIRED, status=TOLD, spec={"memory_mb": 8_000})
    state = observed(card, over, entry=an_entry(step=STOPPED, reason=LeaseReason.EXPIRED))
    assert ("Grant", "small") not in steps(state, NOW + 1)
    assert "room is kept for large" in messages(state, NOW + 1)["default/small"]


def test_a_lease_of_a_group_that_is_placed_nowhere_says_so() -> None:
    """The object of the group is made for it, so that its status says so."""
    alone = a_state(a_node("a"), a_lease())
    assert steps(alone) == [("Create", "card")]
    assert told(a_state(a_node("a"), a_group(), a_lease()), 0.0)["game"] == (
        LeaseReason.NO_DEVICES,
        "no Model of group card is placed on a node, so its GPUs are not known; apply a Model with spec.gpu.shared: card",
    )


def test_a_lease_that_the_api_server_should_have_refused_is_refused_here() -> None:
    """As after an upgrade from a CRD with fewer rules."""
    card = Card()
    card.holds("chat", 1_000)
    state = observed(card, a_lease(spec={"duration": "900h"}))
    assert steps(state, NOW + 1) == []
    assert told(state)["game"] == (LeaseReason.INVALID, "refused: spec.duration must be between 1s and 168h")


def test_a_lease_is_not_granted_a_device_whose_telemetry_an_arbiter_has_not_seen() -> None:
    """Telemetry has named it once. At the end of the lease nothing would tell its processes from those that were there before."""
    lease, rests = a_lease(spec={"memory_mb": 1_000}), member("a", ("Accepted", "Placed"))
    state = a_state(a_node("a"), member("a"), held("a"), lease)
    assert ("Grant", "lease game") not in steps(state)
    free = a_state(a_node("a"), rests, a_group(), lease)
    assert steps(free) == []
    early = msgspec.structs.replace(free, connected_since=NOW)
    wait = "waiting for telemetry of node a: what uses GPU-1 before the lease is not known yet"
    assert wait in told(early, 1)["game"][1]
    assert NOW + STALE_SECONDS in requeues(early, NOW + 1)
    away = msgspec.structs.replace(free, connected_since=None)
    assert wait in told(away, 1_000)["game"][1]
    assert told(early, STALE_SECONDS)["game"] == (
        LeaseReason.QUEUED,
        f"position 1 of 1 in group card; {NO_TELEMETRY}",
    )


NO_TELEMETRY = (
    "node a sends no telemetry, so what uses GPU-1 before the lease is not known; "
    "start the agent on a again, or end the wait: flexinfer lease give game -n default"
)


@pytest.mark.parametrize("memory_mb", [8_000, None])
@pytest.mark.parametrize("serves", [False, True])
def test_a_lease_names_its_exits_once_the_agent_is_removed_and_keeps_no_model_waiting(
    memory_mb: int | None, *, serves: bool
) -> None:
    """It waits without a deadline, also while others hold the devices: no grant could be told from what is in use. No holder leaves for it either."""
    card = Card()
    card.waits("rests", 1_000, IDLE)
    card.holds("chat", 8_192)
    if serves:
        card.serves("chat")
    state = observed(card, a_lease(spec={"memory_mb": memory_mb}))
    silent = STALE_SECONDS + 2
    assert min(requeues(state, NOW + 1)) <= NOW + 1 + STALE_SECONDS
    assert (steps(state, NOW + silent), leavers(state, silent)) == ([], set())
    reason, message = told(state, silent)["game"]
    assert (reason, NO_TELEMETRY in message) == (LeaseReason.QUEUED, True)
    back = msgspec.structs.replace(state, connected_since=NOW + silent - 1)
    assert "waiting for telemetry of node a" in told(back, silent)["game"][1]
    alone = Card()
    alone.waits("chat", 1_000)
    state = observed(alone, a_lease(spec={"memory_mb": memory_mb}))
    assert steps(state, NOW + silent) == [("Grant", "chat")]
    assert NO_TELEMETRY in told(state, silent)["game"][1]


def test_a_lease_of_a_group_whose_node_was_deleted_waits_for_devices() -> None:
    """No agent will run there again."""
    group, devices = a_group(), (GroupDevice(uuid="GPU-1", total_mb=TOTAL_MB),)
    status = msgspec.structs.replace(group.status, node="a", devices=devices)
    state = a_state(a_node("a"), msgspec.structs.replace(group, status=status), a_lease())
    assert NO_TELEMETRY in told(state)["game"][1]
    assert told(later(state, NOW + 1, events.NodeDeleted(name="a")))["game"][0] == LeaseReason.NO_DEVICES


def an_other_object() -> SharedGroup:
    """Return the SharedGroup of another group that has the name of that of `card`."""
    return msgspec.structs.replace(a_group(), spec=SharedGroupSpec(group="other"))


def test_a_lease_of_a_group_whose_object_cannot_be_made_says_so() -> None:
    """A SharedGroup of another group has its name."""
    other = an_other_object()
    assert told(a_state(a_node("a"), other, a_lease()), 0.0)["game"] == (
        LeaseReason.BLOCKED,
        "SharedGroup card belongs to group other; delete it: kubectl delete sharedgroup card -n default",
    )
    assert told(a_state(a_node("a"), other, granted()), 0.0) == {}


def test_a_lease_waits_while_the_models_of_its_group_are_placed_without_a_gpu() -> None:
    """As one that has just joined is: granted by that, the lease would have no device, and all that others use would count as its own at its end."""
    joined = member("a", ("Accepted", "Placed"), placement=Placement(node="a"))
    state = a_state(a_node("a"), joined, a_group(), a_lease(spec={"memory_mb": 1_000}))
    assert steps(state) == []
    assert "its GPUs are not known" in told(state)["game"][1]


LEASES = st.tuples(st.integers(500, 24_000) | st.none(), st.sampled_from([0, 100, 1000]))
MEMBERS = st.lists(
    st.tuples(st.integers(500, 24_000), st.sampled_from([50, 100, 200]), st.booleans(), st.booleans()),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(MEMBERS, LEASES, LEASES | st.none(), st.integers(0, 9_000), st.integers(1, 60))
def test_a_card_with_leases_is_never_given_out_beyond_its_budget(
    members: list[tuple[int, int, bool, bool]],
    waiting: tuple[int | None, int],
    holding: tuple[int | None, int] | None,
    foreign: int,
    seconds: int,
) -> None:
    """Whatever is held, by whom, and whatever waits; and a lease that holds is never among those who leave."""
    card, held_mb, needs = Card(), 0, {"lease train": waiting[0] or 0}
    entry = an_entry(holding[0] or 1_000) if holding is not None else None
    held_mb += entry.memory_mb if entry is not None else 0
    for i, (need, priority, holds, busy) in enumerate(members):
        if holds and held_mb + need <= BUDGET_MB:
            card.holds(f"m{i}", need, priority=priority)
            held_mb += need
        else:
            card.waits(f"m{i}", need, priority=priority)
        if busy:
            card.serves(f"m{i}")
        needs[f"m{i}"] = need
    card.foreign_mb = foreign
    leases = [a_lease("train", spec={"memory_mb": waiting[0], "priority": waiting[1]})]
    leases += [granted(holding[0])] if holding is not None else []
    state = observed(card, *leases, entry=entry, seconds=float(seconds))
    others = max(0, foreign - (entry.memory_mb if entry is not None else 0))
    given = [name for effect, name in steps(state, NOW + seconds) if effect == "Grant"]
    assert all(held_mb + needs[name] + others <= BUDGET_MB for name in given)
    if given == ["lease train"] and waiting[0] is None:
        assert held_mb == 0
    assert "lease game" not in leavers(state, seconds)
    assert not (entry is not None and any(isinstance(a, GrantLease) for a in decided(state, NOW + seconds)))


def test_a_lease_larger_than_a_device_of_its_group_is_refused_with_the_figures_and_holds_up_none() -> None:
    """It would be first of the queue without end. The reserve is never given out."""
    card = Card()
    card.holds("chat", 8_192)
    state = observed(
        card, a_lease("huge", spec={"memory_mb": TOTAL_MB - 511}), a_lease(spec={"memory_mb": 8_000})
    )
    reason, message = told(state)["huge"]
    assert reason == LeaseReason.TOO_LARGE
    assert message == (
        f"refused: it needs {TOTAL_MB - 511} MiB of GPU-1, which has {TOTAL_MB} MiB in all, 512 of them in reserve; "
        "take a lease of less memory, or lower spec.reserveMB of SharedGroup card"
    )
    assert steps(state, NOW + 1) == [("Grant", "lease game")]


def test_a_lease_waits_for_a_device_that_telemetry_does_not_show_now() -> None:
    """By what used the device before the grant its own processes are recognised at its end."""
    card = Card()
    card.waits("chat", 1_000, IDLE)
    lost = msgspec.structs.replace(card.sample(), sample=9, devices=())
    state = later(observed(card, a_lease(spec={"memory_mb": 8_000})), NOW + 2, lost)
    assert steps(state, NOW + 3) == []
    assert (
        "telemetry of node a does not show GPU-1 now, so what uses GPU-1 before the lease is not known; "
        "restart node a if the device is lost, or end the wait: flexinfer lease give game -n default"
    ) in told(state, 3)["game"][1]
    shown = later(state, NOW + 4, msgspec.structs.replace(card.sample(), sample=10))
    assert steps(shown, NOW + 5) == [("Grant", "lease game")]
