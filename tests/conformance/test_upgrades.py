"""Upgrades: what was stored under an older definition stays readable and patchable, and nobody of a former release owns anything."""

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


def todays() -> Object:
    """Return today's definition, under a name of its own."""
    crd = copy.deepcopy(the_crd())
    crd["metadata"]["name"], crd["spec"]["group"] = NAME, GROUP
    return crd


def older() -> Object:
    """Return one of a former release: without rules and bounds, without `serverless` and `nodeSelector`."""
    crd = _loose(todays())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del spec["serverless"], spec["nodeSelector"]
    return dict(crd)


def _loose(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _loose(below) for name, below in part.items() if name not in _NEWER}
    return [_loose(one) for one in part] if isinstance(part, list) else part


@pytest.fixture
def stored(server: ApiServer, space: str) -> Iterator[str]:
    """Return the path of an object that breaks three rules of today, stored before they were."""
    server.define(older())
    body = a_model(source="s3://bucket/key", gpu={"vendor": "cpu", "count": 1}) | {
        "apiVersion": f"{GROUP}/v1alpha2"
    }
    server.create(path(KIND, space), body)
    server.define(todays())
    yield path(KIND, space, "smollm2")
    server.ask("DELETE", f"{DEFINITIONS}/{NAME}")
    server.until_gone(f"{DEFINITIONS}/{NAME}")


def test_an_older_object_is_read_with_the_defaults_of_today(server: ApiServer, stored: str) -> None:
    """One by one, and in a list. Our own API fills them in with the next change of its spec: a limit that its page names."""
    if server.kind == LOCAL:
        assert "serverless" not in server.get(stored)["spec"]
        assert server.patch(stored, {"spec": {"nodeSelector": {"disk": "fast"}}}).code == 200
    found = server.get(stored)["spec"]
    listed = server.get(stored.rpartition("/")[0])["items"][0]["spec"]
    assert found == listed
    assert (found["source"], found["serverless"]["idleTimeout"]) == ("s3://bucket/key", "5m")


def test_an_older_object_takes_a_status(server: ApiServer, stored: str) -> None:
    """By the apply that every service makes."""
    body = {"apiVersion": f"{GROUP}/v1alpha2", "kind": "Model", "metadata": {"name": "smollm2"}}
    reply = server.apply(
        f"{stored}/status", body | {"status": {"conditions": ready()}}, "flexinfer-launcher", force=True
    )
    assert (reply.code, reply.json.get("status")) == (200, {"conditions": ready()}), reply.message


def test_what_is_wrong_in_an_older_object_may_stay_and_may_be_mended(server: ApiServer, stored: str) -> None:
    """A field that did not change is not judged again; one that changes is."""
    assert server.patch(stored, {"spec": {"nodeSelector": {"disk": "fast"}}}).code == 200
    worse = server.patch(stored, {"spec": {"source": "s3://bucket/other"}})
    assert (worse.code, [field for field, _, _ in worse.causes]) == (422, ["spec.source"])
    assert server.patch(stored, {"spec": {"source": "pvc://models/smollm2.gguf", "gpu": None}}).code == 200


def test_a_version_that_was_stored_may_not_be_dropped(server: ApiServer, stored: str) -> None:
    """Both are told as stored; whoever has migrated takes the former off the list, and may then drop it."""
    crd = todays()
    (former,) = crd["spec"]["versions"]
    newer = copy.deepcopy(former) | {"name": "v1"}
    crd["spec"]["versions"] = [newer, former | {"storage": False}]
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


def test_a_former_manager_leaves_no_ghost(server: ApiServer, space: str) -> None:
    """The present owner takes the fields over; then the former applies nothing, and what nobody else has goes."""
    server.create(path(MODELS, space), a_model())
    where = path(MODELS, space, "smollm2", "status")
    body = {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model", "metadata": {"name": "smollm2"}}
    former = body | {"status": {"phase": "Ready", "endpoint": "http://door"}}
    server.apply(where, former, "former", force=True)
    server.apply(where, body | {"status": {"phase": "Idle"}}, "flexinfer-watcher", force=True)
    left = server.apply(where, body, "former").json
    assert (left["status"], managers(left)) == (
        {"phase": "Idle"},
        [("flexinfer-watcher", "Apply", "status"), ("tests", "Update", "")],
    )
    assert server.apply(where, body, "former").json["metadata"] == left["metadata"]
