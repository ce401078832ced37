"""Server-side apply: field ownership, conflicts, and the removal of fields that no applier sets any more."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Patch
from localkube.apiserver.resources import Object
from tests.unit.localkube.apiserver.stage import Stage, a_pod, a_widget


@pytest.fixture
def stage() -> Stage:
    """Return a store with one definition."""
    return Stage()


def owners(obj: Object) -> list[tuple[str, str, str, Any]]:
    """Return manager, operation, subresource and fields of each entry."""
    return [
        (entry["manager"], entry["operation"], entry.get("subresource", ""), entry["fieldsV1"])
        for entry in obj["metadata"]["managedFields"]
    ]


def condition(kind: str, status: str = "True") -> Object:
    """Return a condition."""
    return {"type": kind, "status": status}


def test_creates_an_absent_object(stage: Stage) -> None:
    """The applier owns the fields that it set, not the defaulted ones."""
    created = stage.apply("me", {"metadata": {"labels": {"a": "b"}}, "spec": {"colour": "red"}})
    assert (created["spec"], owners(created), created["metadata"]["generation"]) == (
        {"colour": "red", "size": 1},
        [("me", "Apply", "", {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:colour": {}}})],
        1,
    )


def test_gives_a_creator_its_fields(stage: Stage) -> None:
    """A create owns all its fields, the defaults and the enclosing maps and lists, as in Kubernetes."""
    sent = a_widget(parts=[{"name": "x", "image": "i"}])
    sent["metadata"]["labels"] = {"a": "b"}
    assert owners(stage.create("widgets", sent, manager="me")) == [
        (
            "me",
            "Update",
            "",
            {
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                "f:spec": {
                    ".": {},
                    "f:parts": {".": {}, 'k:{"name":"x"}': {".": {}, "f:image": {}, "f:name": {}}},
                    "f:size": {},
                },
            },
        )
    ]


def test_names_the_owners_of_fields_in_conflict(stage: Stage) -> None:
    """One conflict in one line, several by manager; each is a cause in the details."""
    stage.apply("me", {"spec": {"colour": "red", "size": 3}})
    with pytest.raises(ApiError) as one:
        stage.apply("you", {"spec": {"colour": "blue"}})
    with pytest.raises(ApiError) as two:
        stage.apply("you", {"spec": {"colour": "blue", "size": 4}})
    assert (one.value.code, one.value.reason, one.value.message, one.value.details) == (
        409,
        "Conflict",
        'Apply failed with 1 conflict: conflict with "me": .spec.colour',
        {
            "causes": [
                {"reason": "FieldManagerConflict", "message": 'conflict with "me"', "field": ".spec.colour"}
            ]
        },
    )
    assert two.value.message == (
        'Apply failed with 2 conflicts: conflicts with "me":\n- .spec.colour\n- .spec.size'
    )


def test_names_the_version_and_subresource_of_an_updater(stage: Stage) -> None:
    """An updater is named with its API version, a writer of status with the subresource."""
    stage.create("widgets", a_widget(colour="red"), manager="kubectl-create")
    stage.merge(
        "widgets", "w", {"status": {"conditions": [condition("Ready")]}}, "status", manager="controller"
    )
    with pytest.raises(ApiError) as spec:
        stage.apply("me", {"spec": {"colour": "blue"}})
    with pytest.raises(ApiError) as status:
        stage.apply("me", {"status": {"conditions": [condition("Ready", "False")]}}, "status")
    assert [spec.value.message, status.value.message] == [
        'Apply failed with 1 conflict: conflict with "kubectl-create" using example.org/v1: .spec.colour',
        (
            'Apply failed with 1 conflict: conflict with "controller" with subresource "status" using example.org/v1: '
            '.status.conditions[type="Ready"].status'
        ),
    ]


def test_shares_ownership_of_an_equal_value(stage: Stage) -> None:
    """An equal value is not a conflict; both managers own it, and it stays when one of them drops it."""
    stage.apply("me", {"spec": {"colour": "red", "size": 3}})
    stage.apply("you", {"spec": {"colour": "red"}})
    after = stage.apply("me", {"spec": {"size": 3}})
    assert (after["spec"], owners(after)) == (
        {"colour": "red", "size": 3},
        [
            ("me", "Apply", "", {"f:spec": {"f:size": {}}}),
            ("you", "Apply", "", {"f:spec": {"f:colour": {}}}),
        ],
    )


def test_takes_over_by_force(stage: Stage) -> None:
    """The previous owner loses the field, and its entry once that is empty."""
    stage.apply("me", {"spec": {"colour": "red"}})
    after = stage.apply("you", {"spec": {"colour": "blue"}}, force=True)
    assert (after["spec"]["colour"], [name for name, *_ in owners(after)]) == ("blue", ["you"])


def test_removes_fields_that_their_only_owner_drops(stage: Stage) -> None:
    """Fields, list items, set members and map entries are removed; defaults are set again."""
    full = {
        "colour": "red",
        "size": 9,
        "tags": ["a", "b"],
        "limits": {"x": "1", "y": "2"},
        "parts": [{"name": "p", "image": "1"}, {"name": "q", "image": "1", "note": "n"}],
    }
    stage.apply("me", {"metadata": {"labels": {"a": "b"}}, "spec": full})
    less = {
        "colour": "red",
        "tags": ["b"],
        "limits": {"y": "2"},
        "parts": [{"name": "q", "image": "1"}],
    }
    after = stage.apply("me", {"spec": less})
    assert (after["spec"], "labels" in after["metadata"]) == ({**less, "size": 1}, False)


def test_keeps_list_items_of_other_managers(stage: Stage) -> None:
    """Items are owned one by one; the applier's come in its order, the others keep their place."""
    stage.apply("me", {"spec": {"parts": [{"name": "a"}, {"name": "b"}], "tags": ["x"]}})
    stage.apply("you", {"spec": {"parts": [{"name": "c", "image": "i"}], "tags": ["y"]}})
    after = stage.apply("me", {"spec": {"parts": [{"name": "d"}, {"name": "b", "image": "j"}]}})
    assert after["spec"]["parts"] == [{"name": "d"}, {"name": "b", "image": "j"}, {"name": "c", "image": "i"}]
    assert after["spec"]["tags"] == ["y"]


def test_owns_atomic_values_as_a_whole(stage: Stage) -> None:
    """A list without a type and an atomic map are one value each."""
    stage.apply("me", {"spec": {"steps": ["a", "b"], "place": {"x": 1, "y": 2}}})
    with pytest.raises(ApiError) as error:
        stage.apply("you", {"spec": {"steps": ["a"], "place": {"x": 1}}})
    after = stage.apply("you", {"spec": {"steps": ["c"], "place": {"y": 3}}}, force=True)
    assert error.value.message.endswith('conflicts with "me":\n- .spec.place\n- .spec.steps')
    assert (after["spec"]["steps"], after["spec"]["place"]) == (["c"], {"y": 3})


def test_an_update_takes_ownership_of_changed_fields(stage: Stage) -> None:
    """A merge patch owns the fields that it changed, and their previous owners no longer do."""
    stage.apply("me", {"spec": {"colour": "red", "size": 3}})
    stage.pass_time(60)
    after = stage.merge("widgets", "w", {"spec": {"colour": "blue"}}, manager="kubectl-edit")
    assert owners(after) == [
        ("me", "Apply", "", {"f:spec": {"f:size": {}}}),
        ("kubectl-edit", "Update", "", {"f:spec": {"f:colour": {}}}),
    ]
    assert [entry["time"] for entry in after["metadata"]["managedFields"]] == [
        "2026-11-24T12:00:00Z",
        "2026-11-24T12:01:00Z",
    ]


def test_an_update_that_removes_a_field_removes_its_ownership(stage: Stage) -> None:
    """An absent field has no owner."""
    stage.apply("me", {"spec": {"colour": "red", "limits": {"x": "1"}}})
    after = stage.merge("widgets", "w", {"spec": {"limits": None}}, manager="you")
    assert owners(after) == [("me", "Apply", "", {"f:spec": {"f:colour": {}}})]


def test_an_apply_of_status_writes_status_alone(stage: Stage) -> None:
    """Managers own their conditions one by one; spec and labels are ignored."""
    stage.apply("me", {"spec": {"colour": "red"}})
    stage.apply("a", {"status": {"conditions": [condition("A")], "phase": "x"}}, "status")
    stage.apply("b", {"status": {"conditions": [condition("B")]}}, "status")
    after = stage.apply(
        "a",
        {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"colour": "blue"},
            "status": {"conditions": [condition("A", "False")]},
        },
        "status",
    )
    assert (after["spec"]["colour"], after["status"], after["metadata"].get("labels")) == (
        "red",
        {"conditions": [condition("A", "False"), condition("B")]},
        None,
    )
    assert owners(after)[0][2:] == (
        "status",
        {"f:status": {"f:conditions": {'k:{"type":"A"}': {".": {}, "f:status": {}, "f:type": {}}}}},
    )


def test_ignores_status_on_the_main_endpoint(stage: Stage) -> None:
    """Status is a reset field there."""
    after = stage.apply("me", {"spec": {"colour": "red"}, "status": {"phase": "x"}})
    assert ("status" in after, owners(after)[0][3]) == (False, {"f:spec": {"f:colour": {}}})


def test_writes_nothing_when_nothing_changes(stage: Stage) -> None:
    """A repeated apply keeps version, times and owners, and sends no event."""
    first = stage.apply("me", {"spec": {"colour": "red"}})
    events = stage.watch("widgets")
    stage.pass_time(60)
    assert (stage.apply("me", {"spec": {"colour": "red"}}), events) == (first, [])


def test_a_resource_version_is_a_precondition(stage: Stage) -> None:
    """A stale one is a conflict even with force; for an absent object it is ignored, as by a real server."""
    stage.apply("me", {"spec": {"colour": "red"}})
    stale = {"metadata": {"resourceVersion": "1"}, "status": {"phase": "x"}}
    for subresource in ("", "status"):
        with pytest.raises(ApiError, match="the object has been modified") as error:
            stage.apply("me", stale, subresource, force=True)
        assert error.value.code == 409
    stage.apply("me", {"metadata": {"resourceVersion": "1"}}, name="v")
    assert stage.names("widgets") == ["v", "w"]


def test_does_not_create_through_status_or_for_a_uid(stage: Stage) -> None:
    """An apply of status needs an object, and one with a uid the object of that uid."""
    with pytest.raises(ApiError) as status:
        stage.apply("me", {"status": {"phase": "x"}}, "status")
    with pytest.raises(ApiError, match="uid mismatch: the provided object specified uid u") as uid:
        stage.apply("me", {"metadata": {"uid": "u"}})
    assert (status.value.code, uid.value.code) == (404, 409)


@pytest.mark.parametrize(
    ("body", "manager", "words"),
    [
        pytest.param([], "me", "must be an object", id="no object"),
        pytest.param({"kind": "Other"}, "me", "does not match the expected kind", id="kind"),
        pytest.param({"apiVersion": "v1"}, "me", "does not match the expected API version", id="version"),
        pytest.param({"metadata": {"name": "v"}}, "me", "does not match the name on the URL", id="name"),
        pytest.param(
            {"metadata": {"managedFields": [{}]}}, "me", "managedFields must be nil", id="managedFields"
        ),
        pytest.param({}, "", "fieldManager: Required value", id="no manager"),
    ],
)
def test_refuses_an_invalid_apply_body(stage: Stage, body: Any, manager: str, words: str) -> None:
    """Each with its own message."""
    with pytest.raises(ApiError) as error:
        stage.patch("widgets", "w", Patch("apply", body), manager=manager)
    assert (error.value.code in (400, 422), words in error.value.message) == (True, True)


def test_refuses_two_items_with_one_key(stage: Stage) -> None:
    """With the message and the code of a real API server."""
    with pytest.raises(ApiError) as error:
        stage.apply("me", {"spec": {"parts": [{"name": "x"}, {"name": "x"}]}})
    assert (error.value.code, error.value.message) == (
        500,
        (
            "failed to create typed patch object (default/w; example.org/v1, Kind=Widget): .spec.parts: "
            'duplicate entries for key [name="x"]'
        ),
    )


def test_migrates_and_resets_managed_fields(stage: Stage) -> None:
    """A patch can replace managedFields (as kubectl does) and reset them; one of status cannot."""
    created = stage.create("widgets", a_widget(colour="red"), manager="kubectl-client-side-apply")
    entry = {**created["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}
    migrated = stage.patch(
        "widgets",
        "w",
        Patch("json", [{"op": "replace", "path": "/metadata/managedFields", "value": [entry]}]),
    )
    unchanged = stage.merge("widgets", "w", {"metadata": {"managedFields": [{}]}}, "status")
    reset = stage.merge("widgets", "w", {"metadata": {"managedFields": [{}]}})
    first = stage.apply("me", {"spec": {"colour": "blue"}}, force=True)
    assert [name for name, *_ in owners(migrated)] == ["kubectl"]
    assert unchanged == migrated
    assert owners(reset) == []
    assert [(name, operation) for name, operation, *_ in owners(first)] == [
        ("me", "Apply"),
        ("before-first-apply", "Update"),
    ]


def test_knows_the_list_keys_of_pods(stage: Stage) -> None:
    """Containers, environment and ports merge by their keys."""
    stage.create("pods", a_pod(), manager="me")
    body = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": "image:2"}]}}
    after = stage.patch("pods", "p", Patch("apply", body), manager="you", force=True)
    assert [container["image"] for container in after["spec"]["containers"]] == ["image:2"]
    assert owners(after)[0][3] == {
        "f:spec": {"f:containers": {'k:{"name":"main"}': {".": {}, "f:image": {}, "f:name": {}}}}
    }


SPEC = st.fixed_dictionaries(
    {},
    optional={
        "colour": st.sampled_from(["red", "blue"]),
        "size": st.integers(1, 2),
        "tags": st.lists(st.sampled_from("ab"), unique=True),
        "steps": st.lists(st.sampled_from("ab"), max_size=2),
        "limits": st.dictionaries(st.sampled_from("xy"), st.sampled_from("12")),
        "parts": st.lists(st.sampled_from("pqr"), unique=True).map(
            lambda names: [{"name": name} for name in names]
        ),
    },
)
APPLIES = st.lists(st.tuples(st.sampled_from(["me", "you", "edit"]), SPEC), max_size=6)


def run(stage: Stage, steps: list[tuple[str, Object]]) -> None:
    """Apply with force, in order; the manager `edit` sends merge patches instead."""
    for manager, spec in steps:
        if manager == "edit" and stage.find("widgets", "w"):
            stage.merge("widgets", "w", {"spec": spec}, manager=manager)
        else:
            stage.apply(manager, {"spec": spec}, force=True)


@settings(max_examples=50, deadline=None)
@given(APPLIES, SPEC)
def test_an_apply_is_idempotent_and_touches_no_stored_object(steps: Any, spec: Object) -> None:
    """A repeated apply changes nothing, and objects returned earlier never change."""
    stage = Stage()
    run(stage, steps)
    before = stage.find("widgets", "w")
    copied = copy.deepcopy(before)
    first = stage.apply("me", {"spec": spec}, force=True)
    assert stage.apply("me", {"spec": spec}) is first
    assert before == copied


@settings(max_examples=50, deadline=None)
@given(APPLIES, SPEC)
def test_applied_values_are_set_and_owned(steps: Any, spec: Object) -> None:
    """After a forced apply the object has every applied value, and the applier owns exactly these."""
    stage = Stage()
    run(stage, steps)
    after = stage.apply("me", {"spec": spec}, force=True)
    for name, value in spec.items():
        if name in ("tags", "parts"):
            assert [item for item in after["spec"][name] if item in value] == value
        elif name == "limits":
            assert value.items() <= after["spec"][name].items()
        else:
            assert after["spec"][name] == value
    only = Stage().apply("me", {"spec": spec})
    own = [fields for name, operation, _, fields in owners(after) if (name, operation) == ("me", "Apply")]
    assert own == [fields for _, _, _, fields in owners(only)]


@settings(max_examples=50, deadline=None)
@given(APPLIES)
def test_an_empty_apply_removes_all_fields_of_an_only_applier(steps: Any) -> None:
    """Whatever the manager applied before; only the defaults remain."""
    stage = Stage()
    run(stage, [("me", spec) for _, spec in steps])
    after = stage.apply("me", {})
    assert after.get("spec", {}).keys() <= {"size"}
