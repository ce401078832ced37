"""Events: gone an hour after they were last written, as on a real API server."""

from datetime import timedelta

from localkube.apiserver.requests import Patch
from localkube.controllers.event_expiry import EventExpiry
from tests.unit.localkube.controllers.harness import NAMESPACE, START, Harness


def event(harness: Harness, name: str, seconds: float = 0) -> None:
    """Create an Event after some time."""
    harness.settle(seconds)
    about = {"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": NAMESPACE, "uid": "u"}
    harness.make(
        "events", {"metadata": {"name": name}, "involvedObject": about, "reason": "R", "message": "m"}
    )


def names(harness: Harness) -> list[str]:
    """Return the names of all Events."""
    return [e["metadata"]["name"] for e in harness.all("events")]


def test_an_event_is_gone_an_hour_after_it_was_written() -> None:
    """Each by itself, and nothing else with them."""
    harness = Harness(EventExpiry)
    harness.make("configmaps", {"metadata": {"name": "kept"}})
    event(harness, "first")
    event(harness, "second", 60)
    harness.settle(3539)
    assert names(harness) == ["first", "second"]
    harness.settle(1)
    assert names(harness) == ["second"]
    harness.settle(60)
    assert (names(harness), len(harness.all("configmaps"))) == ([], 1)


def test_an_event_that_is_written_again_stays_an_hour_longer() -> None:
    """A recorder counts up the Event that it has."""
    harness = Harness(EventExpiry)
    event(harness, "counted")
    harness.settle(1800)
    harness.store.patch(harness.resource("events"), NAMESPACE, "counted", Patch("merge", {"count": 2}))
    harness.settle(3599)
    assert names(harness) == ["counted"]
    harness.settle(1)
    assert names(harness) == []


def test_an_event_that_was_deleted_or_made_again_is_left_alone() -> None:
    """The later one has its own hour."""
    harness = Harness(EventExpiry)
    event(harness, "again")
    harness.settle(1800)
    harness.delete("events", "again")
    event(harness, "again")
    harness.settle(1800)
    assert names(harness) == ["again"]
    harness.settle(1800)
    assert names(harness) == []


def test_events_of_the_journal_expire_too() -> None:
    """By the time that they say; one from before a restart does not begin a new hour."""
    harness = Harness()
    event(harness, "old")
    harness.now += timedelta(minutes=50)
    event(harness, "young")
    expiry = EventExpiry(harness.store, lambda: harness.now)
    harness.now += timedelta(minutes=10)
    assert expiry.step()
    assert names(harness) == ["young"]


def test_the_next_deletion_is_announced_and_gathers_those_shortly_after() -> None:
    """An idle API server does nothing until then; many Events at once are one step."""
    harness = Harness()
    expiry = EventExpiry(harness.store, lambda: harness.now)
    assert expiry.next_deadline() is None
    event(harness, "first")
    assert expiry.next_deadline() == START + timedelta(hours=1, seconds=10)


def test_of_many_events_only_the_one_that_is_due_is_deleted() -> None:
    """And that once."""
    harness = Harness()
    expiry = EventExpiry(harness.store, lambda: harness.now)
    for number in range(300):
        event(harness, f"e{number}")
        harness.now += timedelta(seconds=1)
    deleted: list[str] = []
    harness.store.observe(lambda change: deleted.append(change.key[1]))
    harness.now = START + timedelta(hours=1)
    assert expiry.step()
    assert deleted == ["e0"]
    assert not expiry.step()
