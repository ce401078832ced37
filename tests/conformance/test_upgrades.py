"""Upgrades: objects of an older CRD stay readable and writable; field managers of older releases own nothing."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from flexinfer.local.instance import LOCAL
from tests.apiserver import DEFINITIONS, ApiServer, Object
from tests.conformance.objects import MODELS, a_model, managers, path, ready
from tests.definitions import the_crd

GROUP = "older.example.com"
KIND = (f"/apis/{GROUP}/v1alpha2", "models")
NAME = f"models.{GROUP}"
_NEWER = ("x-kubernetes-validations", "maxLength", "maxItems", "maxProperties", "maximum", "pattern", "enum")


def current_crd() -> Object:
    """Return the current CRD, in another group."""
    crd = copy.deepcopy(the_crd())
    crd["metadata"]["name"], crd["spec"]["group"] = NAME, GROUP
    return crd


def older_crd() -> Object:
    """Return the CRD of an older release: no rules, bounds, `serverless` or `nodeSelector`."""
    crd = _loose(current_crd())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del spec["serverless"], spec["nodeSelector"]
    return dict(crd)


def _loose(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _loose(below) for name, below in part.items() if name not in _NEWER}
    return [_loose(one) for one in part] if isinstance(part, list) else part


@pytest.fixture
def stored(server: ApiServer, space: str) -> Iterator[str]:
    """Return the path of an object that violates three current rules, stored before they existed."""
    server.define(older_crd())
    body = a_model(source="s3://bucket/key", gpu={"vendor": "cpu", "count": 1}) | {
        "apiVersion": f"{GROUP}/v1alpha2"
    }
    server.create(path(KIND, space), body)
    server.define(current_crd())
    yield path(KIND, space, "smollm2")
    server.ask("DELETE", f"{DEFINITIONS}/{NAME}")
    server.until_gone(f"{DEFINITIONS}/{NAME}")


def test_an_older_object_is_read_with_the_current_defaults(server: ApiServer, stored: str) -> None:
    """By get and list. The local API sets them at the next change of the spec, a documented limit."""
    if server.kind == LOCAL:
        assert "serverless" not in server.get(stored)["spec"]
        assert server.patch(stored, {"spec": {"nodeSelector": {"disk": "fast"}}}).code == 200
    obj = server.get(stored)["spec"]
    listed = server.get(stored.rpartition("/")[0])["items"][0]["spec"]
    assert obj == listed
    assert (obj["source"], obj["serverless"]["idleTimeout"]) == ("s3://bucket/key", "5m")


def test_the_status_of_an_older_object_can_be_written(server: ApiServer, stored: str) -> None:
    """By a server-side apply, as every component does."""
    body = {"apiVersion": f"{GROUP}/v1alpha2", "kind": "Model", "metadata": {"name": "smollm2"}}
    reply = server.apply(
        f"{stored}/status", body | {"status": {"conditions": ready()}}, "flexinfer-launcher", force=True
    )
    assert (reply.code, reply.json.get("status")) == (200, {"conditions": ready()}), reply.message


def test_invalid_fields_of_an_older_object_may_stay_and_may_be_corrected(
    server: ApiServer, stored: str
) -> None:
    """An unchanged field is not validated again; a changed one is."""
    assert server.patch(stored, {"spec": {"nodeSelector": {"disk": "fast"}}}).code == 200
    worse = server.patch(stored, {"spec": {"source": "s3://bucket/other"}})
    assert (worse.code, [field for field, _, _ in worse.causes]) == (422, ["spec.source"])
    assert server.patch(stored, {"spec": {"source": "pvc://models/smollm2.gguf", "gpu": None}}).code == 200


def test_a_stored_version_cannot_be_removed_from_the_crd(server: ApiServer, stored: str) -> None:
    """It can after the migration of its objects, once it is removed from storedVersions."""
    crd = current_crd()
    (previous,) = crd["spec"]["versions"]
    newer = copy.deepcopy(previous) | {"name": "v1"}
    crd["spec"]["versions"] = [newer, previous | {"storage": False}]
    server.define(crd)
    where = f"{DEFINITIONS}/{NAME}"
    server.eventually(lambda: server.get(where)["status"]["storedVersions"] == ["v1alpha2", "v1"])
    crd["spec"]["versions"] = [newer]
    refused = server.apply(where, crd, "definer", force=True)
    assert (refused.code, "was previously a storage version" in refused.message) == (422, True)
    rewritten = server.patch(stored.replace("/v1alpha2/", "/v1/"), {"metadata": {"labels": {"stored": "v1"}}})
    assert rewritten.code == 200, rewritten.message
    migrated = server.patch(f"{where}/status", {"status": {"storedVersions": ["v1"]}})
    assert migrated.code == 200, migrated.message
    assert server.apply(where, crd, "definer", force=True).code == 200


def test_a_previous_field_manager_leaves_nothing_behind(server: ApiServer, space: str) -> None:
    """The current manager takes over the fields.

    Then the previous one applies an empty set, which deletes what only it owned.
    """
    server.create(path(MODELS, space), a_model())
    where = path(MODELS, space, "smollm2", "status")
    body = {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model", "metadata": {"name": "smollm2"}}
    previous = body | {"status": {"phase": "Ready", "endpoint": "http://llama"}}
    server.apply(where, previous, "previous", force=True)
    server.apply(where, body | {"status": {"phase": "Idle"}}, "flexinfer-watcher", force=True)
    left = server.apply(where, body, "previous").json
    assert (left["status"], managers(left)) == (
        {"phase": "Idle"},
        [("flexinfer-watcher", "Apply", "status"), ("tests", "Update", "")],
    )
    assert server.apply(where, body, "previous").json["metadata"] == left["metadata"]
