"""Fleet and fold: any order, any doubling, the same picture."""

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
from tests.builders import NOW, a_condition, a_fleet, a_model, a_node


def folded(*facts: AnyEvent, at: float = NOW) -> ObservedState:
    """Return a fleet that saw the facts in this order."""
    return apply_events(ObservedState(), [Observation(fact, at) for fact in facts])


versions = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@given(versions, st.randoms(use_true_random=False))
def test_the_newest_version_wins_in_whatever_order_it_comes(seen: list[int], chance: random.Random) -> None:
    """Replies of the API and messages of the bus may mix."""
    facts = [events.ModelObserved(model=a_model(version=v)) for v in seen]
    chance.shuffle(facts)
    state = folded(*facts, *facts)
    assert state.models["default/llama"].metadata.version == max(seen)


def test_a_deleted_model_does_not_come_back_but_its_namesake_does() -> None:
    """A uid that was seen deleted is over."""
    old, new = a_model(uid="old", version=5), a_model(uid="new", version=9)
    gone = events.ModelDeleted(namespace="default", name="llama", uid="old", version=6)
    state = folded(events.ModelObserved(model=old), gone, events.ModelObserved(model=old))
    assert not state.models
    state = apply_events(state, [Observation(events.ModelObserved(model=new), NOW)])
    assert state.models["default/llama"].uid == "new"


def test_a_model_wrongly_called_deleted_comes_back_with_its_next_version() -> None:
    """No message may blind a service for ever: what exists after its deletion was not deleted."""
    wrong = events.ModelDeleted(namespace="default", name="llama", uid="u", version=6)
    state = folded(events.ModelObserved(model=a_model(uid="u", version=5)), wrong)
    assert not state.models
    state = apply_events(state, [Observation(events.ModelObserved(model=a_model(uid="u", version=7)), NOW)])
    assert state.models["default/llama"].metadata.version == 7


def test_a_late_deletion_leaves_the_namesake_alone() -> None:
    """The deletion names a uid."""
    new = a_model(uid="new", version=9)
    gone = events.ModelDeleted(namespace="default", name="llama", uid="old", version=6)
    assert folded(events.ModelObserved(model=new), gone).models["default/llama"].uid == "new"


def test_a_namesake_takes_nothing_over() -> None:
    """The former Model's first sight is forgotten with it."""
    state = folded(
        events.ModelObserved(model=a_model(uid="old", version=5)),
        events.ModelObserved(model=a_model(uid="new", version=9)),
    )
    assert list(state.first_seen) == ["new"]


def test_folding_nothing_changes_nothing() -> None:
    """The same object: deciding on it again gives the same."""
    state = a_fleet(a_model(), a_node())
    assert apply_events(state, []) is state


def test_a_fold_leaves_the_former_fleet_as_it_was() -> None:
    """A fleet is a value."""
    state = a_fleet(a_model())
    apply_events(
        state, [Observation(events.ModelDeleted(namespace="default", name="llama", uid="uid-llama"), NOW)]
    )
    assert "default/llama" in state.models


def test_a_verdict_is_dated_by_our_own_clock_when_it_changes() -> None:
    """A rewritten message or generation does not move it; another reason does."""
    first = a_model(version=1, conditions=[a_condition(conditions.READY)])
    again = a_model(
        version=2, conditions=[msgspec.structs.replace(a_condition(conditions.READY), message="new")]
    )
    other = a_model(version=3, conditions=[("Ready", "False", "Stopped")])
    state = folded(events.ModelObserved(model=first))
    state = apply_events(state, [Observation(events.ModelObserved(model=again), NOW + 5)])
    assert state.changed_at[("default/llama", conditions.READY)] == NOW
    state = apply_events(state, [Observation(events.ModelObserved(model=other), NOW + 9)])
    assert state.changed_at[("default/llama", conditions.READY)] == NOW + 9


def test_an_activity_is_as_old_as_it_says() -> None:
    """Ages travel, not foreign clocks."""
    state = folded(
        events.ActivityObserved(
            proxy="p", namespace="default", name="llama", uid="u", idle_seconds=7.0, in_flight=0, waiting=0
        )
    )
    assert state.activity[("default/llama", "p")].last == NOW - 7
    assert state.proxies["p"].heard == NOW


def test_a_proxy_is_heard_without_a_gap_only_while_its_heartbeats_follow() -> None:
    """Silence starts its time anew."""
    state = folded(events.ProxyObserved(proxy="p"))
    state = apply_events(state, [Observation(events.ProxyObserved(proxy="p"), NOW + 5)])
    assert state.proxies["p"].since == NOW
    late = NOW + 5 + HEARTBEAT_GAP + 1
    state = apply_events(state, [Observation(events.ProxyObserved(proxy="p"), late)])
    assert state.proxies["p"].since == late


def test_an_older_lease_is_passed_over() -> None:
    """Leases are ordered by resourceVersion too."""
    old = GroupLease(namespace="default", group="g", version=3, step=GRANTED, turn=1)
    new = GroupLease(namespace="default", group="g", version=4, step=FREED, turn=1)
    state = folded(events.LeaseObserved(lease=new), events.LeaseObserved(lease=old))
    assert state.lease("default", new.name) == new


def test_marks_differ_by_subject_and_by_sequence() -> None:
    """What the watermark sums."""
    assert len({digest("a", 1), digest("a", 2), digest("b", 1)}) == 3
