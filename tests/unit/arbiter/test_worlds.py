"""Any card with holders and a queue: events touch each key whose decision they alter, and time alone alters none unannounced."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED
from flexinfer.arbiter.effects import Create
from flexinfer.arbiter.keys import keys, touched
from flexinfer.events import events
from flexinfer.events.nodes import Device
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import STALE_SECONDS, Observation, ObservedState
from tests.builders import NOW
from tests.keyed import due_at, effects
from tests.unit.arbiter.cards import FIRST, Card
from tests.unit.arbiter.groups import IDLE, WANTED, messages, process, requeues, sample, steps
from tests.unit.arbiter.test_keys import EVENTS, decided
from tests.unit.keyed import check_key

MEMORY = st.sampled_from([4_000, 9_000, 14_000, 20_000])
PRIORITY = st.sampled_from([50, 50, 100])
STEP = st.sampled_from([GRANTED, GRANTED, GRANTED, RELEASING, STOPPED])


@st.composite
def cards(draw: st.DrawFn) -> tuple[Card, ObservedState, float]:
    """Return a card with holders and Models that wait, and what is observed of it at a time."""
    card = Card(shared=draw(st.sampled_from([True, True, True, False])))
    names = draw(st.sampled_from(["", "a", "a", "ab"]))
    for name in names:
        facts: dict[str, Any] = draw(st.sampled_from([{}, {}, {"serverless": {"enabled": False}}]))
        card.holds(
            name,
            draw(MEMORY),
            step=draw(STEP),
            loading=draw(st.booleans()),
            priority=draw(PRIORITY),
            **facts,
        )
        card.served(**{name: draw(st.floats(0, 100))})
    for name in draw(st.sampled_from(["c", "c", "cd"])):
        card.waits(
            name, draw(MEMORY), draw(st.sampled_from([WANTED, WANTED, FIRST, IDLE])), priority=draw(PRIORITY)
        )
    card.serves(*draw(st.sampled_from([(), tuple(names)])))
    card.away = dict.fromkeys(names, draw(st.integers(0, 70))) if draw(st.booleans()) else {}
    card.foreign_mb = draw(st.sampled_from([0, 0, 3_000]))
    seconds = draw(st.floats(1, 90))
    return card, card.observed(seconds), NOW + seconds


OTHER_NODE = events.GpusObserved(
    node="b", boot="b", sample=1, devices=(Device(uuid="GPU-9", total_mb=24_000),)
)
SEEN = EVENTS | st.sampled_from(
    [OTHER_NODE, sample(4_000, process(used_mb=4_000)), events.ProxyObserved(proxy="p")]
)


HISTORIES = st.lists(st.tuples(SEEN, st.floats(0, 40)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(cards(), HISTORIES)
def test_a_group_asks_for_every_moment_at_which_its_decision_changes(
    world: tuple[Card, ObservedState, float], history: list[tuple[Any, float]]
) -> None:
    """A decision at any other moment is the same as before."""
    _, state, now = world
    for event, pause in history:
        now += pause
        state = apply_events(state, [Observation(event, now)])
    for key in keys(state):
        check_key(decided, state, key, now)


@settings(max_examples=150, deadline=None)
@given(cards(), HISTORIES)
def test_an_event_touches_every_group_whose_decision_it_alters(
    world: tuple[Card, ObservedState, float], history: list[tuple[Any, float]]
) -> None:
    """A key that is not touched is decided on as before; it has asked for a moment that is early enough.

    A group without its object is decided on again anyway, as soon as that is created.
    """
    _, state, now = world
    for event, pause in history:
        now += pause
        after = apply_events(state, [Observation(event, now)])
        for key in {*keys(state), *keys(after)} - set(touched(state, after, event)):
            earlier, later = list(decided(state, key, now)), list(decided(after, key, now))
            assert effects(earlier) == effects(later), (key, event)
            created = any(isinstance(action, Create) for action in earlier)
            assert created or due_at(earlier) <= due_at(later), (key, event)
        state = after


def test_a_queued_model_says_that_a_node_is_silent_as_soon_as_its_sample_is_too_old() -> None:
    """Nothing else has to happen: the group asks for that moment."""
    card = Card()
    card.holds("a", 14_000, serverless={"enabled": False}, priority=100)
    card.waits("c", 14_000, priority=50)
    state = card.observed()
    silent = NOW + 1 + STALE_SECONDS
    assert "needs 14000 of 24064 MiB of GPU-1" in messages(state, silent - 0.1)["default/c"]
    assert silent in requeues(state, silent - 0.1)
    assert "telemetry of node a does not tell" in messages(state, silent)["default/c"]


def test_a_holder_that_was_placed_elsewhere_is_judged_by_the_devices_that_it_still_has() -> None:
    """Telemetry of the node that it moves to says nothing about them."""
    card = Card()
    moved = Placement(node="b", devices=placed_devices(["GPU-9"], 4_000), shared=True)
    card.holds("a", 4_000, entry_mb=4_000, placement=moved)
    card.waits("c", 4_000)
    assert ("Grant", "c") in steps(card.observed(), NOW + 1)
