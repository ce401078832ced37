"""Who is granted beside whom, who leaves for whom, and what is said to those that wait."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexinfer.api.model import BackendStatus
from flexinfer.api.placement import MEASURED, Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import ONE_AT_A_TIME, RELEASING, STOPPED
from flexinfer.arbiter.budget import room
from flexinfer.arbiter.effects import Preempt
from flexinfer.arbiter.member import of_model
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_pod, running
from tests.unit.arbiter.cards import FIRST, TOTAL_MB, Card
from tests.unit.arbiter.groups import WANTED, decided, later, messages, queued, requeues, steps


def leavers(state: ObservedState, now: float) -> list[tuple[str, str]]:
    """Return who is made to leave, and why."""
    return [(a.holder.model, a.reason) for a in decided(state, now) if isinstance(a, Preempt)]


def plan_of(card: Card, name: str) -> str:
    """Return what a Model that is queued lacks, by the holders alone."""
    state = card.observed()
    group, model = card.group(), next(m for m in card.models if m.metadata.name == name)
    return room(of_model(model), group, group.status.holders, state, NOW + 1).why


def homelab() -> Card:
    """Return a card with an embedder, a chat model and a coder loaded, all idle: 22,704 of 24,064 MiB."""
    card = Card()
    card.holds("embedder", 512)
    card.holds("chat", 8_192)
    card.holds("coder", 14_000)
    return card


def test_models_that_fit_hold_the_card_together() -> None:
    """What is left of the budget is enough: no holder leaves."""
    card = Card()
    card.holds("embedder", 512)
    card.holds("chat", 8_192)
    card.waits("coder", 14_000)
    state = card.observed()
    assert steps(state, NOW + 1) == [("Grant", "coder")]
    assert leavers(state, NOW + 1) == []


def test_exactly_the_one_leaves_whose_memory_is_needed() -> None:
    """Without the coder there is room for the image model, without the chat model there is not."""
    card = homelab()
    card.waits("image", 12_288)
    state = card.observed()
    assert leavers(state, NOW + 1) == [("coder", "it is idle")]
    assert steps(state, NOW + 1) == []
    assert messages(state, NOW + 1)["default/image"] == (
        "position 1 of 1 in group card; holders: embedder, chat, coder; until coder has released its memory"
    )


def test_of_equal_ones_the_one_leaves_that_is_idle_longest() -> None:
    """And of those with equal times the one that loads again fastest, then by name (reliability G19)."""
    card = Card()
    card.holds("a", 8_000)
    card.holds("b", 8_000)
    card.waits("c", 10_000)
    card.served(a=1.0, b=30.0)
    assert leavers(card.observed(60.0), NOW + 60) == [("b", "it is idle")]


def test_two_of_low_priority_leave_before_one_of_high_priority() -> None:
    """The fewest by priority."""
    card = Card()
    card.holds("high", 12_000, priority=200)
    card.holds("low", 5_000, priority=50)
    card.holds("lower", 5_000, priority=50)
    card.waits("c", 11_000)
    assert [name for name, _ in leavers(card.observed(), NOW + 1)] == ["low", "lower"]


def test_the_highest_priority_of_those_that_leave_counts_first() -> None:
    """Two of the middle leave before one of high priority with one of low."""
    card = Card()
    card.holds("high", 9_500, priority=90)
    card.holds("low", 2_000, priority=10)
    card.holds("middle", 5_750, priority=50)
    card.holds("other", 5_750, priority=50)
    card.waits("c", 12_000)
    assert [name for name, _ in leavers(card.observed(), NOW + 1)] == ["middle", "other"]


def test_a_holder_in_use_leaves_at_once_for_a_higher_priority_alone() -> None:
    """Its requests are drained; at the same priority it stays until it is idle, or has stayed minStay."""
    card = Card()
    card.holds("a", 14_000)
    card.serves("a")
    card.waits("b", 14_000, priority=200)
    assert leavers(card.observed(), NOW + 1) == [("a", "priority 200 of b is above its 100")]
    card.waits("b", 14_000)
    state = card.observed()
    assert leavers(state, NOW + 1) == []
    assert (
        "a stays: it is in use at the same priority 100, for 30s (minStay)"
        in messages(state, NOW + 1)["default/b"]
    )
    assert requeues(state, NOW + 1)[0] <= NOW + 30
    assert leavers(card.observed(31.0), NOW + 31) == [("a", "it has stayed minStay (30s)")]


def test_a_holder_of_higher_priority_stays_while_it_is_in_use_and_never_blocks_idle() -> None:
    """Whatever maxWait says: strictly higher priorities have demand without a break (reliability G13)."""
    card = Card()
    card.holds("high", 14_000, priority=200)
    card.waits("b", 14_000)
    assert leavers(card.observed(), NOW + 1) == [("high", "it is idle")]
    card.serves("high")
    state = card.observed(600.0)
    assert leavers(state, NOW + 600) == []
    assert "high stays: it is in use at priority 200, above 100" in messages(state, NOW + 600)["default/b"]


def test_who_has_waited_max_wait_is_let_in_before_min_stay_has_passed() -> None:
    """By a holder of the same priority."""
    card = Card()
    card.holds("a", 14_000)
    card.serves("a")
    card.waits(
        "b", 14_000, (*FIRST[:3], ("Wanted", "True", Reason.REQUESTED), ("Granted", "False", Reason.QUEUED))
    )
    card.waits("b", 14_000)
    early = card.observed(20.0, min_stay="10m", max_wait="15s")
    assert leavers(early, NOW + 20) == []
    queued = Card()
    queued.holds("a", 14_000)
    queued.serves("a", "b")
    queued.waits(
        "b", 14_000, (*FIRST[:3], ("Wanted", "True", Reason.REQUESTED), ("Granted", "False", Reason.QUEUED))
    )
    late = queued.observed(20.0, min_stay="10m", max_wait="15s")
    assert leavers(late, NOW + 20) == [("a", "b has waited maxWait (15s)")]


def test_a_wait_in_another_group_is_none_in_this_one() -> None:
    """A Model that is given to another group is the last there, and waits from then on."""
    waits = (*FIRST[:3], ("Wanted", "True", Reason.REQUESTED), ("Granted", "False", Reason.QUEUED))
    card = Card()
    card.holds("a", 14_000)
    card.serves("a", "b")
    other = msgspec.structs.replace(queued(1), group="other")
    card.waits("b", 14_000, waits, shared_group=other)
    state = card.observed(20.0, min_stay="10m", max_wait="15s")
    assert leavers(state, NOW + 20) == []
    came = msgspec.structs.replace(card.models[1].status, shared_group=queued(1))
    meta = msgspec.structs.replace(card.models[1].metadata, resource_version="9")
    moved = msgspec.structs.replace(card.models[1], status=came, metadata=meta)
    state = later(state, NOW + 20, moved)
    assert leavers(state, NOW + 34) == []
    assert leavers(state, NOW + 35) == [("a", "b has waited maxWait (15s)")]


def test_who_has_waited_max_wait_lets_a_holder_stay_as_long_as_it_took_to_load() -> None:
    """Several that have waited so long would otherwise do nothing but load."""
    waits = (*FIRST[:3], ("Wanted", "True", Reason.REQUESTED), ("Granted", "False", Reason.QUEUED))
    card = Card()
    card.holds("a", 14_000, backend_status=BackendStatus(load_seconds=25.0))
    card.serves("a", "b")
    card.waits("b", 14_000, waits)
    early = card.observed(20.0, min_stay="10m", max_wait="15s")
    assert leavers(early, NOW + 20) == []
    assert NOW + 25 in requeues(early, NOW + 20)
    assert leavers(card.observed(25.0, min_stay="10m", max_wait="15s"), NOW + 25) == [
        ("a", "b has waited maxWait (15s)")
    ]
    quick = card.observed(20.0, min_stay="18s", max_wait="15s")
    assert leavers(quick, NOW + 20) == [("a", "it has stayed minStay (18s)")], "minStay is enough"


LEFT = (*WANTED, ("Ready", "False", Reason.STOPPED))


def came_back(after: int | None) -> Card:
    """Return a card with an idle holder that came back after so many seconds, and a Model that left at NOW and is requested again."""
    card = Card()
    card.holds("a", 14_000)
    card.away = {} if after is None else {"a": after}
    card.waits("b", 14_000, LEFT)
    card.serves("b")
    return card


def test_of_two_that_take_turns_an_idle_one_stays_until_the_other_was_away_for_min_stay() -> None:
    """Once both have left and come back soon; one that did not leave is let in at once."""
    card = came_back(12)
    state = card.observed()
    assert leavers(state, NOW + 1) == []
    stays = "a stays: it came back after 12s, so it stays until b has been away for 30s (minStay: 30s)"
    assert stays in messages(state, NOW + 1)["default/b"]
    assert NOW + 30 in requeues(card.observed(29.0), NOW + 29)
    assert leavers(card.observed(30.0), NOW + 30) == [("a", "it is idle")]
    card.waits("b", 14_000)
    assert leavers(card.observed(), NOW + 1) == [("a", "it is idle")]


@pytest.mark.parametrize(
    ("after", "seconds"), [(29, 30), (30, 30), (31, 29), (45, 15), (59, 1), (60, 0), (600, 0), (None, 0)]
)
def test_an_absence_that_was_long_leaves_less_to_wait_for_the_other(after: int | None, seconds: int) -> None:
    """Both come to twice minStay, of which none waits for more than minStay; who left for the first time waits for none of it."""
    card = came_back(after)
    assert leavers(card.observed(seconds + 0.5), NOW + seconds + 0.5) == [("a", "it is idle")]
    if seconds:
        state = card.observed(seconds - 0.5)
        assert leavers(state, NOW + seconds - 0.5) == []
        assert f"b has been away for {seconds}s" in messages(state, NOW + seconds - 0.5)["default/b"]


def test_two_that_always_run_take_turns_after_max_wait() -> None:
    """No request waits: to load them by turns every minStay would serve none."""
    always: dict[str, Any] = {"serverless": {"enabled": False}}
    waits = (*WANTED[:3], ("Wanted", "True", Reason.ALWAYS_ON), ("Granted", "False", Reason.QUEUED))
    card = Card()
    card.holds("a", 14_000, **always)
    card.waits("b", 14_000, waits, **always)
    assert leavers(card.observed(200.0), NOW + 200) == []
    assert leavers(card.observed(301.0), NOW + 301) == [("a", "it has stayed minStay (30s)")]


def test_an_initial_start_makes_no_requested_holder_leave_and_begins_where_there_is_room() -> None:
    """No request needs it; one that ended before this arbiter began is known by lastActiveTime."""
    card = homelab()
    card.served(embedder=0.5, chat=0.5, coder=0.5)
    card.waits("image", 12_288, FIRST)
    state = card.observed()
    assert steps(state, NOW + 1) == []
    assert leavers(state, NOW + 1) == []
    stays = "coder stays: an initial start makes none leave that is loading, in use, or was requested"
    assert stays in messages(state, NOW + 1)["default/image"]
    written = Card()
    written.holds("coder", 14_000, last_active_time="2026-11-24T11:00:00Z")
    written.waits("image", 12_288, FIRST)
    assert leavers(written.observed(), NOW + 1) == []
    small = homelab()
    small.waits("tiny", 1_000, FIRST)
    assert steps(small.observed(), NOW + 1) == [("Grant", "tiny")]


def test_a_holder_that_was_never_requested_leaves_for_an_initial_start() -> None:
    """It has made its own: so each of several new Models is verified, without a wait for an idleTimeout."""
    card = homelab()
    card.served(chat=0.5)
    card.waits("image", 12_288, FIRST)
    state = card.observed()
    assert leavers(state, NOW + 1) == [("coder", "it has made its initial start, and was never requested")]
    card.serves("coder")
    assert leavers(card.observed(), NOW + 1) == []
    loading = Card()
    loading.holds("coder", 14_000, loading=True, wanted=FIRST)
    loading.waits("image", 12_288, FIRST)
    assert leavers(loading.observed(), NOW + 1) == []


def test_room_is_made_for_a_request_before_an_initial_start() -> None:
    """And is kept for it."""
    card = Card()
    card.holds("coder", 20_000)
    card.waits("image", 12_288, FIRST, priority=200)
    card.waits("chat", 16_000)
    made = [a for a in decided(card.observed(), NOW + 1) if isinstance(a, Preempt)]
    assert [(a.holder.model, a.waiter.metadata.name) for a in made] == [("coder", "chat")]
    gone = Card()
    gone.holds("coder", 12_000, step=RELEASING)
    gone.waits("image", 12_000, FIRST, priority=200)
    gone.waits("chat", 16_000)
    assert steps(gone.observed(), NOW + 1) == []


def test_a_model_that_had_to_leave_is_queued_again_when_a_request_comes() -> None:
    """Until then it keeps the reason, also where there is room again: recent requests alone never queue."""
    preempted = (
        *FIRST[:3],
        ("Wanted", "True", Reason.REQUESTED),
        ("Granted", "False", Reason.PREEMPTED),
        "Accepted",
    )
    stopped = ("Ready", "False", Reason.STOPPED)
    card = Card()
    card.waits("a", 8_000, (*preempted[:5], stopped))
    assert steps(card.observed(), NOW + 1) == []
    card.serves("a")
    assert steps(card.observed(), NOW + 1) == [("Grant", "a")]


def test_room_that_is_made_for_a_model_is_kept_for_it() -> None:
    """One behind it is granted only what fits beside it too."""
    card = Card()
    card.holds("chat", 8_192)
    card.holds("coder", 14_000, step=RELEASING)
    card.waits("image", 12_288)
    card.waits("late", 1_500)
    card.waits("small", 1_000)
    state = card.observed()
    assert steps(state, NOW + 1) == [("Grant", "late")], "1,500 fit beside chat, coder and later image"
    wide = Card()
    wide.holds("coder", 14_000, step=RELEASING)
    wide.waits("image", 20_000)
    wide.waits("late", 6_000)
    assert steps(wide.observed(), NOW + 1) == []
    assert "room is kept for image" in messages(wide.observed(), NOW + 1)["default/late"]


def test_what_is_left_of_room_that_is_made_is_kept_for_the_next_in_demand() -> None:
    """One that is behind both takes no part of it: then the second would wait for one that came after it."""
    card = Card()
    card.holds("stays", 11_000)
    card.holds("coder", 8_000, step=RELEASING)
    card.waits("first", 6_000, priority=300)
    card.waits("second", 6_500, priority=200)
    card.waits("third", 3_000)
    state = card.observed()
    assert steps(state, NOW + 1) == []
    assert "room is kept for first and second" in messages(state, NOW + 1)["default/third"]
    card.waits("second", 7_500, priority=200)
    assert steps(card.observed(), NOW + 1) == [("Grant", "third")], (
        "the second fits beside the first in no case"
    )


def test_room_that_is_made_for_an_exclusive_model_is_kept_from_every_other() -> None:
    """One that fits beside it would be made to leave again at once."""
    card = Card()
    card.holds("coder", 14_000, step=RELEASING)
    card.waits("image", 1_500, exclusive=True, priority=200)
    card.waits("small", 1_000)
    state = card.observed()
    assert steps(state, NOW + 1) == []
    assert "room is kept for image: one holder at a time" in messages(state, NOW + 1)["default/small"]


def test_a_holder_of_two_cards_counts_on_both() -> None:
    """There is room where it does not run, or what it leaves on either of its cards (reliability G20)."""
    card = Card()
    card.holds("large", 20_000, uuids=("GPU-1", "GPU-2"))
    card.waits("b", 6_000, uuids=("GPU-2",))
    assert steps(card.observed(), NOW + 1) == []
    assert "needs 6000 of 24064 MiB of GPU-2" in plan_of(card, "b")
    for uuids, memory in ((("GPU-3",), 6_000), (("GPU-2",), 4_000)):
        roomy = Card()
        roomy.holds("large", 20_000, uuids=("GPU-1", "GPU-2"))
        roomy.waits("b", memory, uuids=uuids)
        assert steps(roomy.observed(), NOW + 1) == [("Grant", "b")]


def test_a_card_of_which_telemetry_tells_no_processes_is_judged_by_all_that_is_in_use() -> None:
    """While no holder is on it: it is given to one at a time, and only with room for that one."""
    card = Card()
    card.waits("large", 20_000, uuids=("GPU-1", "GPU-2"))
    card.foreign_mb = 5_000
    state = card.observed()
    assert steps(state, NOW + 1) == []
    shown = card.sample()
    untold = msgspec.structs.replace(shown.devices[1], used_mb=5_000, processes=())
    half = msgspec.structs.replace(shown, devices=(shown.devices[0], untold), sample=2)
    assert steps(later(state, NOW + 1, half), NOW + 1) == []
    card.foreign_mb = 1_000
    shown = card.sample()
    full = msgspec.structs.replace(shown, devices=(shown.devices[0], untold), sample=3)
    assert steps(later(state, NOW + 1, full), NOW + 1) == []
    roomy = msgspec.structs.replace(untold, used_mb=1_000)
    half = msgspec.structs.replace(shown, devices=(shown.devices[0], roomy), sample=3)
    assert steps(later(state, NOW + 1, half), NOW + 1) == [("Grant", "large")]


def test_what_others_use_counts_and_is_named() -> None:
    """A game, memory without a process, and what a holder uses beyond its entry."""
    card = Card()
    card.holds("chat", 8_192)
    card.waits("coder", 14_000)
    for change in ({"foreign_mb": 3_000}, {"late_mb": 3_000}):
        for name, value in change.items():
            setattr(card, name, value)
        state = card.observed()
        assert steps(state, NOW + 1) == []
        card.foreign_mb = card.late_mb = 0
    grown = Card()
    grown.holds("chat", 8_192, used_mb=12_000)
    grown.waits("coder", 14_000)
    assert steps(grown.observed(), NOW + 1) == []
    assert leavers(grown.observed(), NOW + 1) == [("chat", "it is idle")]


def test_a_holder_of_unknown_memory_leaves_for_one_that_needs_what_it_uses() -> None:
    """What it uses is more than its entry says, and comes back with it: an idle one leaves at once, one in use after minStay."""
    card = Card()
    card.holds("unknown", 12_000, entry_mb=0)
    card.waits("large", 20_000)
    assert leavers(card.observed(), NOW + 1) == [("unknown", "it is idle")]
    card.serves("unknown")
    assert leavers(card.observed(5.0, min_stay="10s"), NOW + 5) == []
    assert leavers(card.observed(11.0, min_stay="10s"), NOW + 11) == [
        ("unknown", "it has stayed minStay (10s)")
    ]


def test_one_that_outgrew_its_footprint_leaves_with_all_that_it_uses() -> None:
    """Its growth is not foreign memory: it does not keep another from the room that its leaving makes."""
    card = Card()
    card.holds("grown", 8_000, used_mb=12_000)
    card.waits("large", 20_000)
    assert leavers(card.observed(), NOW + 1) == [("grown", "it is idle")]


def test_room_is_kept_while_memory_of_a_leaver_comes_back() -> None:
    """No process is seen to hold it any more; a process of another counts, and then no room can be made."""
    card = Card()
    card.holds("coder", 5_000, step=STOPPED, used_mb=0)
    card.late_mb = 5_000
    card.waits("large", 20_000, priority=200)
    card.waits("small", 6_000)
    state = card.observed()
    assert steps(state, NOW + 1) == []
    assert "room is kept for large" in messages(state, NOW + 1)["default/small"]
    card.foreign_mb = 5_000
    assert steps(card.observed(), NOW + 1) == [("Grant", "small")]


def test_room_is_kept_while_a_sample_still_shows_the_process_of_one_that_has_stopped() -> None:
    """It held more than its entry: all of that comes back with it, also once its Pod is gone."""
    card = Card()
    card.holds("coder", 5_000, step=STOPPED, used_mb=7_000)
    card.waits("large", 22_500, priority=200)
    card.waits("small", 6_000)
    coder = card.models[0]
    state = later(card.observed(), NOW + 1, running(coder, a_pod(coder, uid="pod-coder")), running(coder))
    assert steps(state, NOW + 1) == []
    assert "room is kept for large" in messages(state, NOW + 1)["default/small"]


def test_a_place_in_the_queue_outlasts_a_group_that_is_blocked() -> None:
    """Who wanted the card first, and had to leave for the other, does not come before it again."""
    first = msgspec.structs.replace(queued(1), state="Blocked")
    card = Card()
    card.waits("left", 20_000)
    card.waits("next", 20_000, shared_group=first)
    assert steps(card.observed(), NOW + 1) == [("Grant", "next")]


def test_a_holder_that_outgrew_its_footprint_says_so_with_both_figures() -> None:
    """As it was measured; from its next turn on it is granted that."""
    card = Card()
    measured = Placement(
        node="a", devices=placed_devices(["GPU-1"], 12_000), footprint_mb=12_000, footprint_source=MEASURED
    )
    card.holds("chat", 8_192)
    card.holds("grown", 8_192, entry_mb=8_192, placement=measured)
    small = msgspec.structs.replace(measured, devices=placed_devices(["GPU-1"], 2_000), footprint_mb=2_000)
    card.holds("small", 2_000, entry_mb=2_000, placement=small)
    said = messages(card.observed(), NOW + 1)
    assert "its engine holds 12000 MiB, and 8192 MiB were granted" in said["default/grown"]
    assert not [name for name in ("chat", "small") if "MiB" in said[f"default/{name}"]]


def test_an_engine_that_still_loads_counts_with_its_entry() -> None:
    """Its processes do not hold it yet."""
    card = Card()
    card.holds("chat", 14_000, used_mb=100)
    card.waits("coder", 12_000)
    assert steps(card.observed(), NOW + 1) == []


def test_none_is_granted_beside_a_holder_whose_entry_names_no_memory() -> None:
    """Its Pod was there before the SharedGroup was: what it takes is not known, whatever its Model says now."""
    card = Card()
    card.holds("early", 0, used_mb=1_000)
    card.serves("early")
    card.waits("b", 1_000)
    assert steps(card.observed(), NOW + 1) == []
    assert "the memory of early is not known" in messages(card.observed(), NOW + 1)["default/b"]


def test_nothing_is_granted_by_a_sample_from_before_the_last_release() -> None:
    """It may show room that another has taken since."""
    card = Card()
    card.waits("b", 1_000)
    state = card.observed()
    assert steps(state, NOW + 1) == [("Grant", "b")]
    released = ObservedState(
        **{f: getattr(state, f) for f in state.__struct_fields__} | {"released_at": {"default/card": NOW + 2}}
    )
    assert steps(released, NOW + 3) == []
    assert "telemetry from after the last release" in messages(released, NOW + 3)["default/b"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"spec": {"mode": ONE_AT_A_TIME}}, "the group has mode OneAtATime", id="mode"),
        pytest.param({"exclusive": True}, "b has spec.gpu.exclusive", id="exclusive"),
        pytest.param(
            {"memory": 0}, "the memory of b is not known: set spec.gpu.vramEstimateMB", id="unknown"
        ),
        pytest.param(
            {"shared": False},
            "gives a GPU to one Pod at a time",
            id="node",
        ),
    ],
)
def test_where_the_card_cannot_be_shared_one_model_holds_it_at_a_time(
    change: dict[str, Any], words: str
) -> None:
    """And the message says why."""
    card = Card(shared=change.get("shared", True))
    card.holds("a", 1_000)
    card.serves("a")
    card.waits("b", change.get("memory", 1_000), exclusive=change.get("exclusive", False))
    state = card.observed(**change.get("spec", {}))
    assert steps(state, NOW + 1) == []
    assert words in messages(state, NOW + 1)["default/b"]


MEMBERS = st.lists(
    st.tuples(st.integers(500, 24_000), st.sampled_from([50, 100, 200]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(MEMBERS, st.integers(0, 9_000), st.integers(1, 60))
def test_a_card_is_never_given_out_beyond_its_budget(
    members: list[tuple[int, int, bool, bool]], foreign: int, seconds: int
) -> None:
    """Whatever is held or waits; and no holder is made to leave for a Model that would not fit then."""
    card, held = Card(), 0
    card.foreign_mb = foreign
    for i, (need, priority, holds, busy) in enumerate(members):
        if holds and held + need + foreign <= TOTAL_MB - 512:
            card.holds(f"m{i}", need, priority=priority)
            held += need
        else:
            card.waits(f"m{i}", need, priority=priority)
        if busy:
            card.serves(f"m{i}")
    state, needs = card.observed(float(seconds)), {f"m{i}": one[0] for i, one in enumerate(members)}
    granted = [name for effect, name in steps(state, NOW + seconds) if effect == "Grant"]
    assert all(held + needs[name] + foreign <= TOTAL_MB - 512 for name in granted)
    gone = [a for a in decided(state, NOW + seconds) if isinstance(a, Preempt)]
    for name in {a.waiter.metadata.name for a in gone}:
        left = held - sum(needs[a.holder.model] for a in gone)
        assert left + needs[name] + foreign <= TOTAL_MB - 512


def test_a_leaver_is_free_when_only_the_others_use_the_card() -> None:
    """They count for what their processes hold: one that loads would hide the leaver's memory behind its entry."""
    card = Card()
    card.holds("chat", 8_192, used_mb=1_000)
    card.holds("coder", 14_000, step=STOPPED, used_mb=0)
    state = card.observed()
    assert ("Advance", "Freed") in steps(state, NOW + 1)
    card.late_mb = 5_000
    assert ("Advance", "Freed") not in steps(card.observed(), NOW + 1)
