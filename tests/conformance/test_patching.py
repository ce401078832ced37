"""Merge patches, JSON patches and strategic merge patches, and what each refuses."""

import pytest

from tests.apiserver import JSON_PATCH, MERGE, STRATEGIC, ApiServer, Object
from tests.conformance.objects import MAPS, MODELS, PODS, a_map, a_model, a_pod, path


@pytest.fixture
def one(server: ApiServer, space: str) -> str:
    """Return the path of a Model."""
    server.create(path(MODELS, space), a_model(gpu={"shared": "card"}, nodeSelector={"disk": "fast"}))
    return path(MODELS, space, "smollm2")


def test_a_merge_patch_sets_and_removes(server: ApiServer, one: str) -> None:
    """Null removes, lists are replaced."""
    body = {"spec": {"gpu": None, "serviceLabels": ["code"]}, "metadata": {"labels": {"a": "b"}}}
    obj = server.patch(one, body, MERGE).json
    assert ("gpu" in obj["spec"], obj["spec"]["serviceLabels"]) == (False, ["code"])
    assert obj["spec"]["nodeSelector"] == {"disk": "fast"}


def test_a_merge_patch_may_have_a_resource_version_as_precondition(server: ApiServer, one: str) -> None:
    """A stale one is a conflict."""
    version = server.get(one)["metadata"]["resourceVersion"]
    bodies = [{"metadata": {"resourceVersion": version, "labels": {"a": letter}}} for letter in "bc"]
    assert [server.patch(one, body, MERGE).code for body in bodies] == [200, 409]


def test_a_json_patch_applies_its_operations_in_order(server: ApiServer, one: str) -> None:
    """Test, replace, add, copy and remove."""
    steps = [
        {"op": "test", "path": "/spec/gpu/shared", "value": "card"},
        {"op": "replace", "path": "/spec/gpu/shared", "value": "other"},
        {"op": "add", "path": "/spec/serviceLabels", "value": ["code"]},
        {"op": "add", "path": "/spec/serviceLabels/-", "value": "chat"},
        {"op": "copy", "from": "/spec/serviceLabels/0", "path": "/spec/gpu/shared"},
        {"op": "remove", "path": "/spec/nodeSelector"},
        {"op": "add", "path": "/metadata/labels", "value": {"a~b": "c"}},
    ]
    reply = server.patch(one, steps, JSON_PATCH)
    assert reply.code == 422  # a~b is not a valid label
    obj = server.patch(one, steps[:-1], JSON_PATCH).json["spec"]
    assert (obj["gpu"]["shared"], obj["serviceLabels"]) == ("code", ["code", "chat"])
    assert "nodeSelector" not in obj


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([{"op": "test", "path": "/spec/gpu/shared", "value": "other"}], 422),
        ([{"op": "test", "path": "/metadata/uid", "value": "other"}], 422),
        ([{"op": "test", "path": "/spec/none", "value": "x"}], 422),
        ([{"op": "remove", "path": "/spec/none"}], 422),
        ([{"op": "replace", "path": "/spec/none/below", "value": 1}], 422),
        ([{"op": "move", "from": "/spec/none", "path": "/spec/serviceLabels"}], 422),
        ([{"op": "fly", "path": "/spec/gpu"}], 422),
        ([{"op": "add", "path": "/spec/none/below", "value": 1}], 422),
        ([{"op": "add", "path": "/spec/serviceLabels/7", "value": "x"}], 422),
    ],
    ids=[
        "test fails",
        "test of uid",
        "test of nothing",
        "remove nothing",
        "replace below nothing",
        "move nothing",
        "no such operation",
        "add below nothing",
        "add past the end",
    ],
)
def test_a_json_patch_that_fails_changes_nothing(
    server: ApiServer, one: str, steps: list[Object], code: int
) -> None:
    """All operations are applied or none."""
    before = server.get(one)
    more = [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}, *steps]
    assert server.patch(one, more, JSON_PATCH).code == code
    assert server.get(one) == before


def test_a_json_patch_may_replace_a_missing_field(server: ApiServer, one: str) -> None:
    """It sets it, other than RFC 6902 says; a missing item of a list is refused.

    A missing field is copied as null.
    """
    steps = [
        {"op": "replace", "path": "/spec/serviceLabels", "value": ["code"]},
        {"op": "copy", "from": "/spec/litellm", "path": "/spec/cache"},
    ]
    obj = server.patch(one, steps, JSON_PATCH).json["spec"]
    assert (obj["serviceLabels"], "cache" in obj) == (["code"], False)
    past = [{"op": "replace", "path": "/spec/serviceLabels/1", "value": "chat"}]
    assert server.patch(one, past, JSON_PATCH).code == 422


@pytest.mark.parametrize(
    ("body", "content", "code"),
    [({"spec": []}, MERGE, 422), ([1], MERGE, 400), ({"op": "add"}, JSON_PATCH, 400)],
    ids=["a list for an object", "no object", "no list"],
)
def test_a_malformed_patch_is_refused(
    server: ApiServer, one: str, body: object, content: str, code: int
) -> None:
    """As unprocessable or as a bad request."""
    assert server.patch(one, body, content).code == code


def test_a_strategic_merge_patch_is_for_built_in_kinds(server: ApiServer, one: str, space: str) -> None:
    """It merges lists by their keys; it is refused for a Model."""
    refused = server.patch(one, {}, STRATEGIC)
    assert (refused.code, refused.json["reason"]) == (415, "UnsupportedMediaType")
    server.create(path(PODS, space), a_pod())
    body = {"spec": {"containers": [{"name": "engine", "image": "example.com/engine:2"}]}}
    obj = server.patch(path(PODS, space, "waits"), body, STRATEGIC).json["spec"]["containers"]
    assert [(one["image"], one["args"]) for one in obj] == [("example.com/engine:2", ["--port", "80"])]


def test_a_strategic_merge_patch_deletes_by_directive(server: ApiServer, space: str) -> None:
    """A key by null, a whole map by `$patch: replace`."""
    server.create(path(MAPS, space), a_map("m", a="1", b="2"))
    one = path(MAPS, space, "m")
    assert server.patch(one, {"data": {"a": None}}, STRATEGIC).json["data"] == {"b": "2"}
    assert server.patch(one, {"data": {"$patch": "replace", "c": "3"}}, STRATEGIC).json["data"] == {"c": "3"}


def test_a_patch_of_a_missing_object_is_not_found(server: ApiServer, space: str) -> None:
    """It creates nothing."""
    assert server.patch(path(MODELS, space, "none"), {}, MERGE).code == 404


@pytest.mark.parametrize("content", ["text/plain", "application/yaml"])
def test_a_patch_of_another_content_type_is_refused(server: ApiServer, one: str, content: str) -> None:
    """415."""
    assert server.patch(one, {}, content).code == 415
