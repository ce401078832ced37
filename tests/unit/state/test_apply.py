"""apply_events: the same state for any order and any repetition of the events."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import FREED, GRANTED, GroupLease
from flexinfer.state.apply import apply_events, digest
from flexinfer.state.observed import HEARTBEAT_GAP, Observation, ObservedState
from tests.builders import NOW, a_condition, a_model, a_node, a_state


def applied(*facts: AnyEvent, at: float = NOW) -> ObservedState:
    """Return the state after the events, in this order."""
    return apply_events(ObservedState(), [Observation(fact, at) for fact in facts])


versions = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@given(versions, st.randoms(use_true_random=False))
def test_the_newest_version_wins_in_any_order(seen: list[int], chance: random.Random) -> None:
    """Replies of the API server and messages of NATS may mix."""
    facts = [events.ModelObserved(model=a_model(version=v)) for v in seen]
    chance.shuffle(facts)
    state = applied(*facts, *facts)
    assert state.models["default/llama"].metadata.version == max(seen)


def test_a_deleted_model_stays_deleted_and_a_newer_one_of_its_name_appears() -> None:
    """A deletion is of a uid."""
    old, new = a_model(uid="old", version=5), a_model(uid="new", version=9)
    gone = events.ModelDeleted(namespace="default", name="llama", uid="old", version=6)
    state = applied(events.ModelObserved(model=old), gone, events.ModelObserved(model=old))
    assert not state.models
    state = apply_events(state, [Observation(events.ModelObserved(model=new), NOW)])
    assert state.models["default/llama"].uid == "new"


def test_a_model_that_was_wrongly_reported_as_deleted_returns_with_its_next_version() -> None:
    """No message may hide a Model permanently: what exists after its deletion was not deleted."""
    wrong = events.ModelDeleted(namespace="default", name="llama", uid="u", version=6)
    state = applied(events.ModelObserved(model=a_model(uid="u", version=5)), wrong)
    assert not state.models
    state = apply_events(state, [Observation(events.ModelObserved(model=a_model(uid="u", version=7)), NOW)])
    assert state.models["default/llama"].metadata.version == 7


def test_a_late_deletion_does_not_affect_a_newer_model_of_that_name() -> None:
    """The deletion names a uid."""
    new = a_model(uid="new", version=9)
    gone = events.ModelDeleted(namespace="default", name="llama", uid="old", version=6)
    assert applied(events.ModelObserved(model=new), gone).models["default/llama"].uid == "new"


def test_a_newer_model_of_the_same_name_inherits_nothing() -> None:
    """When the previous Model was first seen is dropped with it."""
    state = applied(
        events.ModelObserved(model=a_model(uid="old", version=5)),
        events.ModelObserved(model=a_model(uid="new", version=9)),
    )
    assert list(state.first_seen) == ["new"]


def test_no_events_change_nothing() -> None:
    """The same object: deciding on it again gives the same."""
    state = a_state(a_model(), a_node())
    assert apply_events(state, []) is state


def test_the_previous_state_is_not_changed() -> None:
    """An observed state is a value."""
    state = a_state(a_model())
    apply_events(
        state, [Observation(events.ModelDeleted(namespace="default", name="llama", uid="uid-llama"), NOW)]
    )
    assert "default/llama" in state.models


def test_a_change_of_a_condition_is_dated_by_the_readers_own_clock() -> None:
    """A rewritten message or generation does not count as a change; another reason does."""
    first = a_model(version=1, conditions=[a_condition(conditions.READY)])
    again = a_model(
        version=2, conditions=[msgspec.structs.replace(a_condition(conditions.READY), message="new")]
    )
    other = a_model(version=3, conditions=[("Ready", "False", "Stopped")])
    state = applied(events.ModelObserved(model=first))
    state = apply_events(state, [Observation(events.ModelObserved(model=again), NOW + 5)])
    assert state.changed_at[("default/llama", conditions.READY)] == NOW
    state = apply_events(state, [Observation(events.ModelObserved(model=other), NOW + 9)])
    assert state.changed_at[("default/llama", conditions.READY)] == NOW + 9


def test_the_last_request_is_dated_by_its_age() -> None:
    """Events carry ages, not the times of other clocks."""
    state = applied(
        events.ActivityObserved(
            proxy="p", namespace="default", name="llama", uid="u", idle_seconds=7.0, in_flight=0, waiting=0
        )
    )
    assert state.activity[("default/llama", "p")].last == NOW - 7
    assert state.proxies["p"].last == NOW


def test_a_gap_in_the_heartbeats_of_a_proxy_starts_a_new_period() -> None:
    """What happened during the gap cannot be observed."""
    state = applied(events.ProxyObserved(proxy="p"))
    state = apply_events(state, [Observation(events.ProxyObserved(proxy="p"), NOW + 5)])
    assert state.proxies["p"].since == NOW
    late = NOW + 5 + HEARTBEAT_GAP + 1
    state = apply_events(state, [Observation(events.ProxyObserved(proxy="p"), late)])
    assert state.proxies["p"].since == late


def test_an_older_lease_is_ignored() -> None:
    """Leases are ordered by resourceVersion too."""
    old = GroupLease(namespace="default", group="g", version=3, step=GRANTED, turn=1)
    new = GroupLease(namespace="default", group="g", version=4, step=FREED, turn=1)
    state = applied(events.LeaseObserved(lease=new), events.LeaseObserved(lease=old))
    assert state.lease("default", new.name) == new


def test_digests_differ_by_subject_and_by_sequence() -> None:
    """The watermark holds their sums."""
    assert len({digest("a", 1), digest("a", 2), digest("b", 1)}) == 3
