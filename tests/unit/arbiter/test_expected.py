"""When a queued member is expected to be granted: from what is known of the holders, and absent where that does not tell."""

import msgspec
import pytest

from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus
from flexinfer.api.sharedgroup import ONE_AT_A_TIME, RELEASING
from flexinfer.api.status import GrantedStatus
from flexinfer.events import events
from flexinfer.state.actions import WriteStatus
from flexinfer.state.observed import ObservedState
from tests.builders import NOW
from tests.unit.arbiter.cards import FIRST, Card
from tests.unit.arbiter.groups import decided, later
from tests.unit.arbiter.test_leases import END, an_entry, granted
from tests.unit.arbiter.test_leases import observed as with_lease

LOADS_10 = BackendStatus(load_seconds=10.0)


def expected(state: ObservedState, seconds: float = 1.0) -> dict[str, float | None]:
    """Return when each queued Model is expected to be granted, in seconds after NOW; None: it is left out."""
    writes = [a for a in decided(state, NOW + seconds) if isinstance(a, WriteStatus)]
    queued = {
        w.model.metadata.name: w.status.expected_at
        for w in writes
        if isinstance(w.status, GrantedStatus)
        and w.status.shared_group is not None
        and w.status.shared_group.state == "Queued"
    }
    return {name: at - NOW if at is not None else None for name, at in queued.items()}


def test_an_idle_holder_is_expected_to_be_gone_in_a_second() -> None:
    """It leaves at once; its memory is seen back a moment later."""
    card = Card()
    card.holds("a", 14_000)
    card.waits("b", 14_000)
    assert expected(card.observed()) == {"b": 2.0}


def test_an_initial_start_is_expected_where_the_holder_was_never_requested() -> None:
    """That one leaves at once; when one leaves that was requested, loads, or serves depends on no time."""
    card = Card()
    card.holds("a", 14_000)
    card.waits("b", 14_000, FIRST)
    assert expected(card.observed()) == {"b": 2.0}
    card.serves("a")
    assert expected(card.observed()) == {"b": None}
    loading = Card()
    loading.holds("a", 14_000, loading=True, backend_status=LOADS_10)
    loading.waits("b", 14_000, FIRST)
    assert expected(loading.observed()) == {"b": None}


def test_a_busy_holder_of_the_same_priority_stays_min_stay_and_the_drain_deadline_at_the_latest() -> None:
    """It became ready at NOW: 30 s of minStay, 30 s until its last request is cut off."""
    card = Card()
    card.holds("a", 14_000)
    card.serves("a")
    card.waits("b", 14_000)
    assert expected(card.observed()) == {"b": 61.0}
    assert expected(card.observed(min_stay="10s")) == {"b": 41.0}


def test_a_busy_holder_of_lower_priority_is_drained_from_now_on() -> None:
    """Its requests may take until the drain deadline."""
    card = Card()
    card.holds("a", 14_000)
    card.serves("a")
    card.waits("b", 14_000, priority=200)
    assert expected(card.observed()) == {"b": 32.0}


def test_how_long_a_higher_priority_stays_in_use_is_not_known() -> None:
    """Nothing is invented: it has demand as long as it has."""
    card = Card()
    card.holds("high", 14_000, priority=200)
    card.serves("high")
    card.waits("b", 14_000)
    assert expected(card.observed()) == {"b": None}


def test_of_several_holders_the_one_counts_that_leaves_first_and_makes_room() -> None:
    """The higher one may stay for hours, the idle one makes room."""
    card = Card()
    card.holds("high", 8_000, priority=200)
    card.serves("high")
    card.holds("a", 10_000)
    card.waits("b", 14_000)
    assert expected(card.observed()) == {"b": 2.0}


def test_who_is_behind_another_waits_until_that_one_has_loaded_and_stayed() -> None:
    """10 s as it was measured, 30 s of minStay, and the release; without a measured start it is not known."""
    for backend, behind in ((LOADS_10, 43.0), (BackendStatus(), None)):
        card = Card()
        card.holds("a", 14_000)
        card.waits("b", 14_000, backend_status=backend)
        card.waits("c", 14_000)
        assert expected(card.observed()) == {"b": 2.0, "c": behind}


def test_who_fits_beside_the_one_in_front_is_granted_with_it() -> None:
    """Both fit once the holder is gone."""
    card = Card()
    card.holds("a", 20_000)
    card.waits("b", 12_000)
    card.waits("c", 8_000)
    assert expected(card.observed()) == {"b": 2.0, "c": 2.0}
    alone = expected(card.observed(mode=ONE_AT_A_TIME))
    assert alone == {"b": 2.0, "c": None}


def test_a_holder_that_loads_stays_as_long_as_it_took_the_last_time_and_min_stay() -> None:
    """Granted at NOW; a start that was never measured, or takes longer than it did, says nothing."""
    for seconds, backend, at in ((1.0, LOADS_10, 71.0), (1.0, BackendStatus(), None), (12.0, LOADS_10, None)):
        card = Card()
        card.holds("a", 14_000, loading=True, backend_status=backend)
        card.serves("a")
        card.waits("b", 14_000)
        assert expected(card.observed(seconds), seconds) == {"b": at}


def test_a_release_that_is_late_already_says_nothing() -> None:
    """A second after its step began its memory should have been back."""
    card = Card()
    card.holds("a", 14_000, step=RELEASING)
    card.waits("b", 14_000)
    assert expected(card.observed(0.5), 0.5) == {"b": 1.0}
    assert expected(card.observed(5.0), 5.0) == {"b": None}


def test_a_lease_has_the_card_until_it_ends() -> None:
    """By the clock of this process, once it was asked for the end."""
    card = Card()
    card.waits("b", 20_000)
    lease = granted()
    state = with_lease(card, lease, entry=an_entry())
    assert expected(state) == {"b": None}
    meta = lease.metadata
    timed = events.LeaseTimed(
        namespace=meta.namespace, name=meta.name, uid=meta.uid, expires_at=END, remaining_seconds=600.0
    )
    assert expected(later(state, NOW + 1, timed)) == {"b": 602.0}


@pytest.mark.parametrize("time", ["2026-11-24T10:00:05Z", ""])
def test_an_expected_time_alone_is_never_written(time: str) -> None:
    """It is written again with the next status that is written anyway."""
    card = Card()
    card.holds("a", 14_000)
    card.serves("a")
    card.waits("b", 14_000)
    state = card.observed()
    (write,) = [
        a for a in decided(state, NOW + 1) if isinstance(a, WriteStatus) and a.model.metadata.name == "b"
    ]
    assert isinstance(write.status, GrantedStatus)
    shared = msgspec.structs.replace(write.status.shared_group or GroupMembership(), expected_time=time)
    b = write.model
    status = msgspec.structs.replace(
        b.status, conditions=(*b.status.conditions, write.condition), shared_group=shared
    )
    meta = msgspec.structs.replace(b.metadata, resource_version="50")
    held = later(state, NOW + 1, msgspec.structs.replace(b, metadata=meta, status=status))
    assert expected(held) == {}
