"""Watches: every change in order, initial events, bookmarks, and the resourceVersion to start from."""

from tests.apiserver import ApiServer, Object
from tests.conformance.objects import MODELS, a_model, path, ready, set_status

INITIAL = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


def types_and_names(events: list[Object]) -> list[tuple[str, str]]:
    """Return type and object name of each event."""
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def version(server: ApiServer, space: str) -> str:
    """Return the resourceVersion of the current list."""
    return str(server.get(path(MODELS, space))["metadata"]["resourceVersion"])


def test_a_watch_sends_the_changes_after_a_version(server: ApiServer, space: str) -> None:
    """Added, modified by metadata and by status, deleted.

    Each with a greater resourceVersion than the one before.
    """
    with server.watch(path(MODELS, space), resourceVersion=version(server, space)) as stream:
        server.create(path(MODELS, space), a_model())
        server.patch(path(MODELS, space, "smollm2"), {"metadata": {"labels": {"a": "b"}}})
        set_status(server, space, phase="Ready")
        server.ask("DELETE", path(MODELS, space, "smollm2"))
        events = [stream.next() for _ in range(4)]
    kinds = [kind for kind, _ in types_and_names(events)]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert kinds == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert versions == sorted(set(versions))
    assert events[3]["object"]["status"] == {"phase": "Ready"}


def test_a_watch_without_a_version_starts_with_existing_objects(server: ApiServer, space: str) -> None:
    """As ADDED events."""
    server.create(path(MODELS, space), a_model("existing"))
    with server.watch(path(MODELS, space)) as stream:
        server.create(path(MODELS, space), a_model("later"))
        assert types_and_names([stream.next(), stream.next()]) == [("ADDED", "existing"), ("ADDED", "later")]


def test_the_initial_events_end_with_an_annotated_bookmark(server: ApiServer, space: str) -> None:
    """Then the changes follow."""
    for name in ("a", "b"):
        server.create(path(MODELS, space), a_model(name))
    with server.watch(path(MODELS, space), **INITIAL) as stream:
        events = stream.until("BOOKMARK")
        server.ask("DELETE", path(MODELS, space, "a"))
        later = stream.next()
    assert sorted(types_and_names(events)[:-1]) == [("ADDED", "a"), ("ADDED", "b")]
    mark = events[-1]["object"]
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (mark["kind"], mark["apiVersion"]) == ("Model", "ai.flexinfer/v1alpha2")
    assert int(later["object"]["metadata"]["resourceVersion"]) > int(mark["metadata"]["resourceVersion"])
    assert types_and_names([later]) == [("DELETED", "a")]


def test_a_watch_may_start_at_a_bookmark(server: ApiServer, space: str) -> None:
    """No event is sent twice, and none is missing."""
    server.create(path(MODELS, space), a_model("before"))
    with server.watch(path(MODELS, space), **INITIAL) as stream:
        mark = stream.until("BOOKMARK")[-1]["object"]["metadata"]["resourceVersion"]
    server.create(path(MODELS, space), a_model("after"))
    with server.watch(path(MODELS, space), resourceVersion=mark) as stream:
        assert types_and_names([stream.next()]) == [("ADDED", "after")]


def test_an_object_that_stops_matching_a_selector_is_sent_as_deleted(server: ApiServer, space: str) -> None:
    """And one that starts to match as added."""
    server.create(path(MODELS, space), a_model(meta={"labels": {"size": "small"}}))
    since = version(server, space)
    with server.watch(path(MODELS, space), resourceVersion=since, labelSelector="size=small") as stream:
        for size in ("large", "small"):
            server.patch(path(MODELS, space, "smollm2"), {"metadata": {"labels": {"size": size}}})
        events = [stream.next(), stream.next()]
    assert [kind for kind, _ in types_and_names(events)] == ["DELETED", "ADDED"]
    assert events[0]["object"]["metadata"]["labels"] == {"size": "small"}


def test_one_object_can_be_watched(server: ApiServer, space: str) -> None:
    """By its name, as `kubectl wait` does."""
    since = version(server, space)
    with server.watch(path(MODELS, space), resourceVersion=since, fieldSelector="metadata.name=b") as stream:
        for name in ("a", "b"):
            server.create(path(MODELS, space), a_model(name))
        assert types_and_names([stream.next()]) == [("ADDED", "b")]


def test_a_watch_ends_at_its_timeout(server: ApiServer, space: str) -> None:
    """Cleanly, without an error."""
    with server.watch(path(MODELS, space), timeoutSeconds=1) as stream:
        assert stream.next() == {}


def test_a_watch_can_send_table_rows(server: ApiServer, space: str) -> None:
    """As for `kubectl get -w`; the columns are sent once."""
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    since = version(server, space)
    with server.watch(path(MODELS, space), accept=table, resourceVersion=since) as stream:
        server.create(path(MODELS, space), a_model())
        set_status(server, space, phase="Ready", conditions=ready())
        first, second = stream.next()["object"], stream.next()["object"]
    assert (first["kind"], len(first["columnDefinitions"]), second["columnDefinitions"]) == (
        "Table",
        14,
        None,
    )
    assert [one["rows"][0]["cells"][1] for one in (first, second)] == [None, "Ready"]
