"""Server-side apply: field ownership, conflicts, force, and the deletion of fields that an owner leaves out."""

from typing import Any

import pytest

from tests.apiserver import APPLY, MERGE, ApiServer, Object
from tests.conformance.objects import MAPS, MODELS, a_model, managers, path, ready


def a_condition(kind: str, status: str = "True") -> Object:
    """Return one condition."""
    return ready()[0] | {"type": kind, "status": status}


def a_status(
    name: str = "smollm2", *conditions: Object, meta: Object | None = None, **fields: object
) -> Object:
    """Return an apply of a status as a component sends it."""
    return {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": name} | (meta or {}),
        "status": {"conditions": list(conditions)} | fields,
    }


def test_an_apply_creates_and_then_updates(server: ApiServer, space: str) -> None:
    """201, then 200; an apply without changes does not change the resourceVersion."""
    one = path(MODELS, space, "smollm2")
    sources = ("pvc://models/smollm2.gguf", "pvc://models/other.gguf")
    replies = [server.apply(one, a_model(source=source), "one") for source in sources for _ in "12"]
    versions = [reply.json["metadata"]["resourceVersion"] for reply in replies]
    assert [reply.code for reply in replies] == [201, 200, 200, 200]
    assert (versions[0] == versions[1], versions[1] == versions[2], versions[2] == versions[3]) == (
        True,
        False,
        True,
    )


def test_an_apply_owns_the_fields_that_it_sets_but_not_defaults(server: ApiServer, space: str) -> None:
    """In managedFields."""
    created = server.apply(path(MODELS, space, "smollm2"), a_model(meta={"labels": {"a": "b"}}), "one").json
    (entry,) = created["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == (
        "one",
        "Apply",
        "ai.flexinfer/v1alpha2",
    )
    assert entry["fieldsV1"] == {
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {"f:backend": {}, "f:source": {}},
    }


def test_a_create_owns_defaults_too(server: ApiServer, space: str) -> None:
    """As an Update by the manager of its user agent."""
    created = server.create(path(MODELS, space), a_model(gpu={}))
    (entry,) = created["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("tests", "Update")
    assert entry["fieldsV1"]["f:spec"]["f:gpu"] == {".": {}, "f:priority": {}, "f:vendor": {}}


def test_a_conflict_names_the_owner_and_the_field(server: ApiServer, space: str) -> None:
    """For one conflict and for several."""
    one = path(MODELS, space, "smollm2")
    server.apply(one, a_model(), "one")
    refused = server.apply(one, a_model(source="pvc://models/other.gguf"), "two")
    assert (refused.code, refused.json["reason"]) == (409, "Conflict")
    assert refused.message == 'Apply failed with 1 conflict: conflict with "one": .spec.source'
    assert refused.causes == [(".spec.source", "FieldManagerConflict", 'conflict with "one"')]
    both = server.apply(one, a_model(source="HF://a/b", backend="vllm"), "two")
    assert (
        both.message
        == 'Apply failed with 2 conflicts: conflicts with "one":\n- .spec.backend\n- .spec.source'
    )


def test_applying_the_same_value_makes_two_owners(server: ApiServer, space: str) -> None:
    """A field that one of them drops stays, since the other still owns it."""
    one = path(MODELS, space, "smollm2")
    for manager in ("one", "two"):
        server.apply(one, a_model(gpu={"shared": "card"}), manager)
    kept = server.apply(one, a_model(), "one").json
    assert kept["spec"]["gpu"]["shared"] == "card"
    gone = server.apply(one, a_model(), "two").json
    assert "gpu" not in gone["spec"]


def test_force_takes_over_the_field(server: ApiServer, space: str) -> None:
    """The previous owner loses this field only."""
    one = path(MODELS, space, "smollm2")
    server.apply(one, a_model(), "one")
    other = {**a_model(), "spec": {"source": "pvc://models/other.gguf"}}
    forced = server.apply(one, other, "two", force=True).json
    owned = {entry["manager"]: entry["fieldsV1"]["f:spec"] for entry in forced["metadata"]["managedFields"]}
    assert owned == {"one": {"f:backend": {}}, "two": {"f:source": {}}}
    assert forced["spec"]["source"] == "pvc://models/other.gguf"


def test_a_field_that_its_owner_leaves_out_is_deleted(server: ApiServer, space: str) -> None:
    """Fields of other owners stay."""
    one = path(MODELS, space, "smollm2")
    server.apply(one, a_model(meta={"labels": {"mine": "a"}}, nodeSelector={"disk": "fast"}), "one")
    server.apply(one, {**a_model(meta={"labels": {"theirs": "b"}}), "spec": {}}, "two")
    left = server.apply(one, a_model(), "one").json
    assert ("nodeSelector" in left["spec"], left["metadata"]["labels"]) == (False, {"theirs": "b"})


def test_an_apply_on_a_stale_version_is_refused_even_by_force(server: ApiServer, space: str) -> None:
    """Every status write of a component relies on it."""
    one = path(MODELS, space, "smollm2")
    version = server.apply(one, a_model(), "one").json["metadata"]["resourceVersion"]
    server.patch(one, {"metadata": {"labels": {"a": "b"}}})
    stale = a_status("smollm2", a_condition("Ready"), meta={"resourceVersion": version})
    refused = server.apply(f"{one}/status", stale, "flexinfer-launcher", force=True)
    assert (refused.code, refused.json["reason"]) == (409, "Conflict")


def test_an_apply_with_a_uid_does_not_create_and_one_with_a_version_does(
    server: ApiServer, space: str
) -> None:
    """To never re-create a deleted Model, an apply sets the uid or applies to a subresource."""
    one = path(MODELS, space, "smollm2")
    refused = server.apply(one, a_model(meta={"uid": "gone"}), "one")
    assert (refused.code, "no existing object was found" in refused.message) == (409, True)
    stale = a_status("smollm2", a_condition("Ready"), meta={"resourceVersion": "1"})
    assert server.apply(f"{one}/status", stale, "flexinfer-launcher", force=True).code == 404
    assert server.apply(one, a_model(meta={"resourceVersion": "1"}), "one").code == 201


def test_components_own_their_conditions_side_by_side(server: ApiServer, space: str) -> None:
    """Each owns the condition of its type in the list."""
    server.create(path(MODELS, space), a_model())
    status = path(MODELS, space, "smollm2", "status")
    for owner, kind in (("placer", "Placed"), ("launcher", "Ready")):
        reply = server.apply(status, a_status("smollm2", a_condition(kind)), f"flexinfer-{owner}", force=True)
        assert reply.code == 200, reply.message
    changed = server.apply(
        status, a_status("smollm2", a_condition("Ready", "False")), "flexinfer-launcher"
    ).json
    assert {one["type"]: one["status"] for one in changed["status"]["conditions"]} == {
        "Placed": "True",
        "Ready": "False",
    }
    assert managers(changed) == [
        ("flexinfer-launcher", "Apply", "status"),
        ("flexinfer-placer", "Apply", "status"),
        ("tests", "Update", ""),
    ]


def test_an_apply_of_a_status_clears_the_fields_that_it_leaves_out(server: ApiServer, space: str) -> None:
    """Such as the endpoint of a stopped Model."""
    server.create(path(MODELS, space), a_model())
    status = path(MODELS, space, "smollm2", "status")
    server.apply(
        status, a_status("smollm2", a_condition("Ready"), endpoint="http://llama"), "flexinfer-launcher"
    )
    left = server.apply(status, a_status("smollm2", a_condition("Ready", "False")), "flexinfer-launcher").json
    assert "endpoint" not in left["status"]


def test_an_update_takes_ownership_of_the_fields_that_it_changes(server: ApiServer, space: str) -> None:
    """And of no other field."""
    one = path(MODELS, space, "smollm2")
    server.apply(one, a_model(), "one")
    patched = server.patch(
        one, {"spec": {"source": "pvc://models/other.gguf"}}, MERGE, fieldManager="hand"
    ).json
    owned = {entry["manager"]: entry["fieldsV1"]["f:spec"] for entry in patched["metadata"]["managedFields"]}
    assert owned == {"one": {"f:backend": {}}, "hand": {"f:source": {}}}


@pytest.mark.parametrize(
    ("body", "query", "code", "message"),
    [
        (a_model(), {}, 422, "fieldManager: Required value: is required for apply patch"),
        (
            a_model(meta={"managedFields": [{}]}),
            {"fieldManager": "one"},
            400,
            "metadata.managedFields must be nil",
        ),
        (a_model("other"), {"fieldManager": "one"}, 400, "the name of the object (other) does not match"),
    ],
    ids=["no manager", "managed fields", "another name"],
)
def test_an_invalid_apply_is_refused(
    server: ApiServer, space: str, body: Object, query: dict[str, Any], code: int, message: str
) -> None:
    """Before anything is written."""
    reply = server.ask("PATCH", path(MODELS, space, "smollm2"), body, content=APPLY, **query)
    assert (reply.code, message in reply.message) == (code, True), reply.message


def test_force_is_refused_for_other_patches(server: ApiServer, space: str) -> None:
    """422 for a merge patch."""
    server.create(path(MODELS, space), a_model())
    reply = server.patch(path(MODELS, space, "smollm2"), {}, MERGE, force=True)
    assert (reply.code, "force: Forbidden" in reply.message) == (422, True)


def test_a_built_in_kind_is_applied_the_same_way(server: ApiServer, space: str) -> None:
    """The keys of a ConfigMap are owned one by one."""
    one = path(MAPS, space, "m")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}
    server.apply(one, body | {"data": {"a": "1"}}, "one")
    both = server.apply(one, body | {"data": {"b": "2"}}, "two").json
    assert both["data"] == {"a": "1", "b": "2"}
    assert server.apply(one, body | {"data": {"b": "3"}}, "one").code == 409
    assert server.apply(one, body, "one").json["data"] == {"b": "2"}
