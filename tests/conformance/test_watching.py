"""Watching: every change in order, the state before it where that is asked for, bookmarks, and where a watch may begin."""

from tests.apiserver import ApiServer, Object
from tests.conformance.objects import MODELS, a_model, path, ready, set_status

INITIAL = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


def told(events: list[Object]) -> list[tuple[str, str]]:
    """Return type and name of each."""
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def version(server: ApiServer, space: str) -> str:
    """Return the version of the list as it is."""
    return str(server.get(path(MODELS, space))["metadata"]["resourceVersion"])


def test_a_watch_tells_what_changes_after_a_version(server: ApiServer, space: str) -> None:
    """Added, modified by spec and by status, deleted; each with a greater version than the one before."""
    with server.watch(path(MODELS, space), resourceVersion=version(server, space)) as stream:
        server.create(path(MODELS, space), a_model())
        server.patch(path(MODELS, space, "smollm2"), {"metadata": {"labels": {"a": "b"}}})
        set_status(server, space, phase="Ready")
        server.ask("DELETE", path(MODELS, space, "smollm2"))
        events = [stream.next() for _ in range(4)]
    kinds = [kind for kind, _ in told(events)]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert kinds == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert versions == sorted(set(versions))
    assert events[3]["object"]["status"] == {"phase": "Ready"}


def test_a_watch_without_a_version_begins_with_what_is_there(server: ApiServer, space: str) -> None:
    """As if it were added now."""
    server.create(path(MODELS, space), a_model("there"))
    with server.watch(path(MODELS, space)) as stream:
        server.create(path(MODELS, space), a_model("later"))
        assert told([stream.next(), stream.next()]) == [("ADDED", "there"), ("ADDED", "later")]


def test_the_initial_events_end_with_a_bookmark_that_says_so(server: ApiServer, space: str) -> None:
    """A list in the form of a stream, then the changes."""
    for name in ("a", "b"):
        server.create(path(MODELS, space), a_model(name))
    with server.watch(path(MODELS, space), **INITIAL) as stream:
        events = stream.until("BOOKMARK")
        server.ask("DELETE", path(MODELS, space, "a"))
        later = stream.next()
    assert sorted(told(events)[:-1]) == [("ADDED", "a"), ("ADDED", "b")]
    mark = events[-1]["object"]
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (mark["kind"], mark["apiVersion"]) == ("Model", "ai.flexinfer/v1alpha2")
    assert int(later["object"]["metadata"]["resourceVersion"]) > int(mark["metadata"]["resourceVersion"])
    assert told([later]) == [("DELETED", "a")]


def test_a_watch_may_begin_at_the_bookmark(server: ApiServer, space: str) -> None:
    """Nothing is told twice, and nothing is left out."""
    server.create(path(MODELS, space), a_model("before"))
    with server.watch(path(MODELS, space), **INITIAL) as stream:
        mark = stream.until("BOOKMARK")[-1]["object"]["metadata"]["resourceVersion"]
    server.create(path(MODELS, space), a_model("after"))
    with server.watch(path(MODELS, space), resourceVersion=mark) as stream:
        assert told([stream.next()]) == [("ADDED", "after")]


def test_what_leaves_a_selection_is_deleted_to_its_watcher(server: ApiServer, space: str) -> None:
    """And what comes into it is added."""
    server.create(path(MODELS, space), a_model(meta={"labels": {"size": "small"}}))
    since = version(server, space)
    with server.watch(path(MODELS, space), resourceVersion=since, labelSelector="size=small") as stream:
        for size in ("large", "small"):
            server.patch(path(MODELS, space, "smollm2"), {"metadata": {"labels": {"size": size}}})
        events = [stream.next(), stream.next()]
    assert [kind for kind, _ in told(events)] == ["DELETED", "ADDED"]
    assert events[0]["object"]["metadata"]["labels"] == {"size": "small"}


def test_one_object_can_be_watched(server: ApiServer, space: str) -> None:
    """By its name, as kubectl waits for one."""
    since = version(server, space)
    with server.watch(path(MODELS, space), resourceVersion=since, fieldSelector="metadata.name=b") as stream:
        for name in ("a", "b"):
            server.create(path(MODELS, space), a_model(name))
        assert told([stream.next()]) == [("ADDED", "b")]


def test_a_watch_ends_when_its_time_is_over(server: ApiServer, space: str) -> None:
    """Cleanly, without an error."""
    with server.watch(path(MODELS, space), timeoutSeconds=1) as stream:
        assert stream.next() == {}


def test_a_watch_can_be_of_rows(server: ApiServer, space: str) -> None:
    """As `kubectl get -w` prints them; the columns come once."""
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    since = version(server, space)
    with server.watch(path(MODELS, space), accept=table, resourceVersion=since) as stream:
        server.create(path(MODELS, space), a_model())
        set_status(server, space, phase="Ready", conditions=ready())
        first, second = stream.next()["object"], stream.next()["object"]
    assert (first["kind"], len(first["columnDefinitions"]), second["columnDefinitions"]) == (
        "Table",
        12,
        None,
    )
    assert [one["rows"][0]["cells"][1] for one in (first, second)] == [None, "Ready"]
