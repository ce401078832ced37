"""The store answers as a real API server does."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Query, WatchEvent
from localkube.apiserver.resources import Object
from localkube.apiserver.watch_cache import WINDOW
from tests.unit.localkube.apiserver.stage import Stage, a_pod, a_widget

LOCK = "the object has been modified; please apply your changes to the latest version and try again"


@pytest.fixture
def stage() -> Stage:
    """Return a store with two namespaces and one definition."""
    return Stage()


def failure(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str, str]:
    """Return code, reason and message of an error."""
    return error.value.code, error.value.reason, error.value.message


def test_gives_a_new_object_its_identity(stage: Stage) -> None:
    """A client cannot set uid, time, generation, version and status."""
    sent = a_widget(colour="red") | {"status": {"phase": "Done"}}
    sent["metadata"] |= {"uid": "mine", "generation": 7, "creationTimestamp": "2000-01-01T00:00:00Z"}
    created = stage.create("widgets", sent, manager="me")
    meta = {key: value for key, value in created["metadata"].items() if key != "managedFields"}
    assert created | {"metadata": meta} == {
        "apiVersion": "example.org/v1",
        "kind": "Widget",
        "metadata": {
            "name": "w",
            "namespace": "default",
            "uid": "00000000-0000-4000-8000-000000000004",
            "creationTimestamp": "2026-11-24T12:00:00Z",
            "generation": 1,
            "resourceVersion": str(stage.store.revision),
        },
        "spec": {"colour": "red", "size": 1},
    }


def test_refuses_a_taken_name(stage: Stage) -> None:
    """A second create is AlreadyExists."""
    stage.create("widgets", a_widget())
    with pytest.raises(ApiError) as error:
        stage.create("widgets", a_widget())
    assert failure(error) == (409, "AlreadyExists", 'widgets.example.org "w" already exists')


def test_a_missing_object_is_not_found(stage: Stage) -> None:
    """The message names the resource and the object."""
    with pytest.raises(ApiError) as error:
        stage.get("pods", "x")
    assert error.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "x" not found',
        "reason": "NotFound",
        "details": {"name": "x", "kind": "pods"},
        "code": 404,
    }


def test_generates_a_name(stage: Stage) -> None:
    """From generateName and five letters, different each time."""
    sent = {**a_widget(), "metadata": {"generateName": "w-"}}
    names = {stage.create("widgets", sent)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("w-") and len(name) == 7 for name in names)


@pytest.mark.parametrize(
    ("meta", "code", "words"),
    [
        pytest.param(
            {}, 422, "metadata.name: Required value: name or generateName is required", id="no name"
        ),
        pytest.param({"name": "A_b"}, 422, "a lowercase RFC 1123 subdomain must consist", id="bad name"),
        pytest.param(
            {"name": "a", "resourceVersion": "3"}, 500, "resourceVersion should not be set", id="version"
        ),
        pytest.param(
            {"name": "a", "namespace": "other"},
            400,
            "does not match the namespace sent",
            id="other namespace",
        ),
    ],
)
def test_refuses_invalid_metadata(stage: Stage, meta: Object, code: int, words: str) -> None:
    """Without a name, or with one that contradicts the request."""
    with pytest.raises(ApiError) as error:
        stage.create("widgets", {**a_widget(), "metadata": meta})
    assert (error.value.code, words in error.value.message) == (code, True)


def test_the_generation_counts_changes_of_the_spec_only(stage: Stage) -> None:
    """Not those of labels and status."""
    stage.create("widgets", a_widget(colour="red"))
    results = [
        stage.merge("widgets", "w", {"metadata": {"labels": {"a": "b"}}}),
        stage.merge("widgets", "w", {"status": {"phase": "Done"}}, "status"),
        stage.merge("widgets", "w", {"spec": {"colour": "blue"}}),
        stage.merge("widgets", "w", {"spec": {"colour": "green"}, "status": {"phase": "Lost"}}),
        stage.merge("widgets", "w", {"spec": {"colour": "white"}, "status": {"phase": "Late"}}, "status"),
    ]
    assert [(obj["metadata"]["generation"], obj["spec"]["colour"], obj.get("status")) for obj in results] == [
        (1, "red", None),
        (1, "red", {"phase": "Done"}),
        (2, "blue", {"phase": "Done"}),
        (3, "green", {"phase": "Done"}),
        (3, "green", {"phase": "Late"}),
    ]


def test_a_write_that_changes_nothing_is_a_no_op(stage: Stage) -> None:
    """It keeps the resourceVersion, and there is no event."""
    created = stage.create("widgets", a_widget(colour="red"), manager="me")
    events = stage.watch("widgets")
    same = [
        stage.put("widgets", created, manager="you"),
        stage.merge("widgets", "w", {"spec": {"colour": "red"}}, manager="you"),
        stage.merge("widgets", "w", {}, "status"),
    ]
    assert [obj["metadata"]["resourceVersion"] for obj in same] == [
        created["metadata"]["resourceVersion"]
    ] * 3
    assert events == []


def test_refuses_a_write_from_an_older_version(stage: Stage) -> None:
    """PUT and PATCH with a stale resourceVersion are conflicts, on status too."""
    created = stage.create("widgets", a_widget(colour="red"))
    stage.merge("widgets", "w", {"spec": {"colour": "blue"}})
    stale = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}}
    writes: list[Callable[[], Object]] = [
        lambda: stage.put("widgets", created),
        lambda: stage.put("widgets", created, "status"),
        lambda: stage.merge("widgets", "w", stale | {"spec": {"colour": "red"}}),
        lambda: stage.merge("widgets", "w", stale | {"status": {"phase": "a"}}, "status"),
    ]
    for write in writes:
        with pytest.raises(ApiError) as error:
            write()
        expected = f'Operation cannot be fulfilled on widgets.example.org "w": {LOCK}'
        assert failure(error) == (409, "Conflict", expected)


def test_requires_a_version_where_kubernetes_does(stage: Stage) -> None:
    """For a PUT of a custom resource, not of a ConfigMap."""
    stage.create("widgets", a_widget())
    stage.create("configmaps", {"metadata": {"name": "c"}, "data": {"a": "1"}})
    with pytest.raises(ApiError) as error:
        stage.put("widgets", a_widget(colour="red"))
    assert failure(error) == (
        422,
        "Invalid",
        'widgets.example.org "w" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update',
    )
    assert stage.put("configmaps", {"metadata": {"name": "c"}, "data": {"a": "2"}})["data"] == {"a": "2"}


def test_another_uid_is_a_conflict_but_not_on_status(stage: Stage) -> None:
    """The status path of a custom resource ignores the uid, as observed on a real API server."""
    stage.create("widgets", a_widget())
    wrong = {"metadata": {"uid": "other"}}
    with pytest.raises(ApiError, match="UID in precondition: other"):
        stage.put(
            "widgets",
            stage.get("widgets", "w")
            | {"metadata": stage.get("widgets", "w")["metadata"] | wrong["metadata"]},
        )
    with pytest.raises(ApiError, match="field is immutable"):
        stage.merge("widgets", "w", wrong)
    with pytest.raises(ApiError, match="field is immutable"):
        stage.apply("me", {"metadata": {"uid": "other"}, "spec": {"size": 2}})
    written = stage.merge("widgets", "w", {**wrong, "status": {"phase": "a"}}, "status")
    assert written["status"] == {"phase": "a"}
    assert stage.apply("me", {**wrong, "status": {"phase": "b"}}, "status", force=True)["status"] == {
        "phase": "b"
    }


def test_keeps_system_metadata(stage: Stage) -> None:
    """A patch of system fields other than uid has no effect; another name is refused."""
    created = stage.create("widgets", a_widget())
    after = stage.merge(
        "widgets",
        "w",
        {
            "metadata": {
                "creationTimestamp": None,
                "generation": 9,
                "deletionTimestamp": "2030-01-01T00:00:00Z",
            }
        },
    )
    assert after == created
    with pytest.raises(
        ApiError, match=r"the name of the object \(v\) does not match the name on the URL \(w\)"
    ):
        stage.merge("widgets", "w", {"metadata": {"name": "v"}})


def test_a_dry_run_changes_nothing(stage: Stage) -> None:
    """Create, patch and delete return their result only."""
    created = stage.create("widgets", a_widget(colour="red"))
    assert stage.create("widgets", a_widget("v"), dry_run=True)["metadata"]["name"] == "v"
    assert stage.merge("widgets", "w", {"spec": {"colour": "blue"}}, dry_run=True)["spec"]["colour"] == "blue"
    stage.delete("widgets", "w", dry_run=True)
    assert (stage.names("widgets"), stage.get("widgets", "w")) == (["w"], created)


def test_creates_only_in_an_active_namespace(stage: Stage) -> None:
    """404 for a missing namespace, 403 for one that is being deleted."""
    widgets = stage.res("widgets")
    with pytest.raises(ApiError) as missing:
        stage.store.create(widgets, "nowhere", a_widget())
    stage.delete("namespaces", "other")
    with pytest.raises(ApiError) as going:
        stage.store.create(widgets, "other", a_widget())
    assert [failure(missing), failure(going)] == [
        (404, "NotFound", 'namespaces "nowhere" not found'),
        (
            403,
            "Forbidden",
            (
                'widgets.example.org "w" is forbidden: unable to create new content in namespace other because it is being '
                "terminated"
            ),
        ),
    ]
    assert (going.value.details or {})["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": "namespace other is being terminated",
            "field": "metadata.namespace",
        }
    ]


def test_lists_by_namespace_and_selectors(stage: Stage) -> None:
    """Namespaces, labels and fields select."""
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        obj = a_widget(name, colour=colour)
        obj["metadata"]["labels"] = {"name": name}
        stage.create("widgets", obj)
    stage.store.create(stage.res("widgets"), "other", a_widget("d"))
    assert [
        stage.names("widgets"),
        stage.names("widgets", "other"),
        stage.names("widgets", "default", label_selector="name in (a, b),name!=b"),
        stage.names("widgets", field_selector="spec.colour=red"),
        stage.names("widgets", field_selector="metadata.name!=a,metadata.namespace=default"),
    ] == [["a", "b", "c", "d"], ["d"], ["a"], ["a", "c"], ["b", "c"]]


def test_chunks_are_of_the_revision_of_the_first(stage: Stage) -> None:
    """Changes between chunks do not show."""
    for name in "abcdef":
        stage.create("widgets", a_widget(name))
    widgets = stage.res("widgets")
    first = stage.store.list(widgets, "default", Query(limit=2))
    stage.delete("widgets", "c")
    stage.create("widgets", a_widget("bb"))
    stage.merge("widgets", "d", {"spec": {"colour": "red"}})
    second = stage.store.list(widgets, "default", Query(limit=3, continue_token=first.continue_token))
    third = stage.store.list(widgets, "default", Query(limit=3, continue_token=second.continue_token))
    assert [
        ([obj["metadata"]["name"] for obj in page.items], page.remaining, page.resource_version)
        for page in (first, second, third)
    ] == [
        (["a", "b"], 4, first.resource_version),
        (["c", "d", "e"], 1, first.resource_version),
        (["f"], None, first.resource_version),
    ]
    assert "colour" not in second.items[1]["spec"]


def test_refuses_an_old_continue_token(stage: Stage) -> None:
    """410 when the history no longer has its revision, 400 when it cannot be decoded."""
    stage.create("widgets", a_widget("a"))
    stage.create("widgets", a_widget("b"))
    widgets = stage.res("widgets")
    token = stage.store.list(widgets, None, Query(limit=1)).continue_token
    for number in range(WINDOW + 2):
        stage.merge("widgets", "a", {"status": {"phase": str(number)}}, "status")
    with pytest.raises(ApiError) as old:
        stage.store.list(widgets, None, Query(limit=1, continue_token=token))
    with pytest.raises(ApiError) as wrong:
        stage.store.list(widgets, None, Query(continue_token="nonsense"))
    assert [(each.value.code, each.value.reason) for each in (old, wrong)] == [
        (410, "Expired"),
        (400, "BadRequest"),
    ]


def test_delivers_changes_in_order_and_after_a_version(stage: Stage) -> None:
    """A watch from a past version gets what a watch since then got."""
    start = str(stage.store.revision)
    live = stage.watch("widgets")
    stage.create("widgets", a_widget(colour="red"))
    stage.merge("widgets", "w", {"spec": {"colour": "blue"}})
    stage.create("configmaps", {"metadata": {"name": "c"}})
    stage.delete("widgets", "w")
    assert [event.type for event in live] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event.obj["metadata"]["resourceVersion"] for event in live] == [str(e.revision) for e in live]
    assert stage.watch("widgets", since=start) == live


def test_a_watch_with_a_selector_gets_additions_and_deletions(stage: Stage) -> None:
    """An object that no longer matches is DELETED, in its last matching state."""
    red = stage.watch("widgets", field_selector="spec.colour=red")
    stage.create("widgets", a_widget(colour="blue"))
    for colour in ("red", "blue"):
        stage.merge("widgets", "w", {"spec": {"colour": colour}})
    assert [(event.type, event.obj["spec"]["colour"]) for event in red] == [
        ("ADDED", "red"),
        ("DELETED", "red"),
    ]
    assert red[1].obj["metadata"]["resourceVersion"] == str(stage.store.revision)


def test_refuses_a_watch_from_an_old_or_future_version(stage: Stage) -> None:
    """410 Expired and 504 Timeout, as in Kubernetes."""
    stage.create("widgets", a_widget())
    for number in range(WINDOW + 1):
        stage.merge("widgets", "w", {"status": {"phase": str(number)}}, "status")
    with pytest.raises(ApiError) as old:
        stage.watch("widgets", since="1")
    with pytest.raises(ApiError) as new:
        stage.watch("widgets", since=str(stage.store.revision + 1))
    assert [(each.value.code, each.value.reason) for each in (old, new)] == [
        (410, "Expired"),
        (504, "Timeout"),
    ]
    assert old.value.message.startswith("too old resource version: 1 (")


def test_delivers_the_writes_of_a_listener_after_their_cause(stage: Stage) -> None:
    """All listeners get the events in the order of versions."""
    colours: list[str] = []

    def write(event: WatchEvent) -> None:
        if event.obj["spec"].get("colour") == "red":
            stage.merge("widgets", "w", {"spec": {"colour": "blue"}})

    widgets = stage.res("widgets")
    stage.store.subscribe(widgets, None, Query(), write, since=None)
    stage.store.subscribe(
        widgets, None, Query(), lambda e: colours.append(e.obj["spec"]["colour"]), since=None
    )
    stage.create("widgets", a_widget(colour="red"))
    assert colours == ["red", "blue"]


def test_an_ended_subscription_gets_no_events(stage: Stage) -> None:
    """As when a client disconnects."""
    events: list[WatchEvent] = []
    unsubscribe = stage.store.subscribe(stage.res("widgets"), None, Query(), events.append, since=None)
    unsubscribe()
    stage.create("widgets", a_widget())
    assert events == []


def test_keeps_a_deleted_object_until_its_last_finalizer_is_removed(stage: Stage) -> None:
    """Deletion sets deletionTimestamp and increases the generation; removing the last finalizer deletes it."""
    sent = a_widget()
    sent["metadata"]["finalizers"] = ["a/b", "c/d"]
    stage.create("widgets", sent)
    events = stage.watch("widgets")
    marked = stage.delete("widgets", "w")
    with pytest.raises(ApiError) as error:
        stage.merge("widgets", "w", {"metadata": {"finalizers": ["a/b", "c/d", "e/f"]}})
    stage.delete("widgets", "w")
    stage.merge("widgets", "w", {"metadata": {"finalizers": ["c/d"]}})
    last = stage.merge("widgets", "w", {"metadata": {"finalizers": None}})
    assert [event.type for event in events] == ["MODIFIED", "MODIFIED", "DELETED"]
    assert {
        key: marked["metadata"][key]
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation")
    } == {"deletionTimestamp": "2026-11-24T12:00:00Z", "deletionGracePeriodSeconds": 0, "generation": 2}
    assert (
        'no new finalizers can be added if the object is being deleted, found new finalizers []string{"e/f"}'
        in (error.value.message)
    )
    assert ("finalizers" in last["metadata"], stage.find("widgets", "w")) == (False, None)


def test_a_deletion_has_preconditions(stage: Stage) -> None:
    """Of uid and resourceVersion."""
    uid = stage.create("widgets", a_widget())["metadata"]["uid"]
    with pytest.raises(
        ApiError, match=r"the UID in the precondition \(other\) does not match the UID in record"
    ) as error:
        stage.delete("widgets", "w", uid="other")
    with pytest.raises(ApiError, match=r"the ResourceVersion in the precondition \(1\) does not match"):
        stage.delete("widgets", "w", resource_version="1")
    stage.delete("widgets", "w", uid=uid)
    assert (error.value.code, stage.names("widgets")) == (409, [])


def test_deletes_a_collection(stage: Stage) -> None:
    """The objects that match the selectors."""
    for name in "abc":
        stage.create("widgets", a_widget(name, colour="red" if name < "c" else "blue"))
    gone = stage.store.delete_collection(
        stage.res("widgets"), "default", Query(field_selector="spec.colour=red")
    )
    assert ([obj["metadata"]["name"] for obj in gone.items], stage.names("widgets")) == (["a", "b"], ["c"])


def test_protects_system_namespaces(stage: Stage) -> None:
    """The namespace default may not be deleted."""
    with pytest.raises(ApiError) as error:
        stage.delete("namespaces", "default")
    expected = 'namespaces "default" is forbidden: this namespace may not be deleted'
    assert failure(error) == (403, "Forbidden", expected)


def test_serves_a_resource_until_its_definition_is_deleted(stage: Stage) -> None:
    """Which is when its last finalizer is removed."""
    stage.delete("customresourcedefinitions", "widgets.example.org")
    assert stage.res("widgets").kind == "Widget"
    stage.merge("customresourcedefinitions", "widgets.example.org", {"metadata": {"finalizers": None}})
    assert not [res for res in stage.registry.resources() if res.plural == "widgets"]


def test_refuses_a_pod_change_that_kubernetes_refuses(stage: Stage) -> None:
    """A Pod's image may change, its command may not."""
    stage.create("pods", a_pod())
    stage.merge("pods", "p", {"spec": {"containers": [{"name": "main", "image": "image:2"}]}})
    with pytest.raises(ApiError, match="pod updates may not change fields other than") as error:
        stage.merge("pods", "p", {"spec": {"hostNetwork": True}})
    assert error.value.code == 422


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "spec", "label", "status", "delete"]),
        st.sampled_from("abc"),
        st.sampled_from(["red", "blue"]),
    ),
    max_size=25,
)


def act(stage: Stage, step: tuple[str, str, str]) -> None:
    """Try an operation; 404 and 409 are ignored."""
    what, name, colour = step
    actions: dict[str, Any] = {
        "create": lambda: stage.create("widgets", a_widget(name, colour=colour)),
        "spec": lambda: stage.merge("widgets", name, {"spec": {"colour": colour}}),
        "label": lambda: stage.merge("widgets", name, {"metadata": {"labels": {"colour": colour}}}),
        "status": lambda: stage.merge("widgets", name, {"status": {"phase": colour}}, "status"),
        "delete": lambda: stage.delete("widgets", name),
    }
    try:
        actions[what]()
    except ApiError as error:
        assert error.code in (404, 409)


def apply_events(objects: dict[str, Object], events: list[WatchEvent]) -> dict[str, Object]:
    """Return the objects of an informer after these events."""
    cache = dict(objects)
    for event in events:
        if event.type == "DELETED":
            del cache[event.obj["metadata"]["name"]]
        else:
            cache[event.obj["metadata"]["name"]] = event.obj
    return cache


@settings(max_examples=50, deadline=None)
@given(_STEPS, _STEPS, st.sampled_from(["", "spec.colour=red"]))
def test_a_list_and_its_watch_make_the_next_list(before: Any, after: Any, selector: str) -> None:
    """A list plus all events since equals the next list, with and without a selector."""
    stage = Stage()
    widgets, query = stage.res("widgets"), Query(field_selector=selector)
    for step in before:
        act(stage, step)
    first = stage.store.list(widgets, None, query)
    for step in after:
        act(stage, step)
    events = stage.watch("widgets", since=first.resource_version, field_selector=selector)
    listed = {obj["metadata"]["name"]: obj for obj in first.items}
    last = stage.store.list(widgets, None, query)
    assert apply_events(listed, events) == {obj["metadata"]["name"]: obj for obj in last.items}


@settings(max_examples=50, deadline=None)
@given(_STEPS)
def test_each_write_has_a_version_and_an_event(steps: Any) -> None:
    """Events are delivered in the order of versions."""
    stage = Stage()
    events = stage.watch("widgets")
    start = stage.store.revision
    for step in steps:
        act(stage, step)
    assert [event.revision for event in events] == list(range(start + 1, stage.store.revision + 1))
