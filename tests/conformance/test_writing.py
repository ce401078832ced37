"""Writes: names, resourceVersions and generations; fields that only the server sets; status and spec; dry runs.

Dry runs.
"""

from typing import Any

import pytest

from tests.apiserver import MERGE, ApiServer
from tests.conformance.objects import (
    LEASES,
    MAPS,
    MODELS,
    a_map,
    a_model,
    path,
    ready,
    set_status,
)

STALE = "the object has been modified; please apply your changes to the latest version and try again"


def test_a_new_object_gets_the_fields_that_the_server_sets(server: ApiServer, space: str) -> None:
    """Uid, creationTimestamp and generation; values of the client are ignored."""
    claimed = {"uid": "mine", "generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z"}
    created = server.create(path(MODELS, space), a_model(meta=claimed))["metadata"]
    assert (created["generation"], len(created["uid"]), created["namespace"]) == (1, 36, space)
    assert created["creationTimestamp"] > "2026"


def test_an_existing_name_is_refused(server: ApiServer, space: str) -> None:
    """AlreadyExists, with the object in its details."""
    server.create(path(MODELS, space), a_model())
    reply = server.ask("POST", path(MODELS, space), a_model())
    assert (reply.code, reply.json["reason"], reply.message) == (
        409,
        "AlreadyExists",
        'models.ai.flexinfer "smollm2" already exists',
    )
    assert reply.json["details"] == {"name": "smollm2", "group": "ai.flexinfer", "kind": "models"}


def test_a_name_can_be_generated(server: ApiServer, space: str) -> None:
    """With a suffix of five characters."""
    one, two = (
        server.create(path(MAPS, space), {"metadata": {"generateName": "part-"}})["metadata"]["name"]
        for _ in range(2)
    )
    assert (one[:5], len(one), one != two) == ("part-", 10, True)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"metadata": {}}, 422, "metadata.name: Required value: name or generateName is required"),
        ({"metadata": {"name": "Big"}}, 422, 'metadata.name: Invalid value: "Big"'),
        (
            {"metadata": {"name": "a", "namespace": "other"}},
            400,
            "the namespace of the provided object does not match",
        ),
        (
            {"metadata": {"name": "a", "resourceVersion": "1"}},
            500,
            "resourceVersion should not be set on objects to be",
        ),
        ({"metadata": {"name": "a", "labels": {"a b": "c"}}}, 422, "metadata.labels: Invalid value"),
        ({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "a"}}, 400, "v2"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}, 400, "Secret"),
    ],
    ids=[
        "no name",
        "a name in capitals",
        "another namespace",
        "a version",
        "a bad label",
        "another version",
        "another kind",
    ],
)
def test_an_invalid_object_is_refused(
    server: ApiServer, space: str, body: dict[str, object], code: int, message: str
) -> None:
    """With the field in the message, if there is one."""
    reply = server.ask("POST", path(MAPS, space), body)
    assert (reply.code, message in reply.message) == (code, True), reply.message


def test_a_stale_put_is_a_conflict(server: ApiServer, space: str) -> None:
    """With the message of a real API server."""
    created = server.create(path(MODELS, space), a_model())
    server.patch(path(MODELS, space, "smollm2"), {"metadata": {"labels": {"a": "b"}}})
    reply = server.ask("PUT", path(MODELS, space, "smollm2"), created)
    assert (reply.code, reply.json["reason"]) == (409, "Conflict")
    assert reply.message == f'Operation cannot be fulfilled on models.ai.flexinfer "smollm2": {STALE}'


def test_a_put_of_a_custom_resource_or_lease_needs_a_resource_version(server: ApiServer, space: str) -> None:
    """A put of a ConfigMap does not."""
    server.create(path(MODELS, space), a_model())
    server.create(path(LEASES, space), {"metadata": {"name": "turn"}})
    server.create(path(MAPS, space), a_map("m"))
    required = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    refused = server.ask("PUT", path(MODELS, space, "smollm2"), a_model())
    assert (refused.code, refused.message) == (422, f'models.ai.flexinfer "smollm2" is invalid: {required}')
    lease = server.ask("PUT", path(LEASES, space, "turn"), {"metadata": {"name": "turn"}})
    assert (lease.code, lease.message) == (422, f'leases.coordination.k8s.io "turn" is invalid: {required}')
    assert server.ask("PUT", path(MAPS, space, "m"), a_map("m", a="b")).code == 200


def test_a_write_for_a_deleted_object_does_not_reach_its_namesake(server: ApiServer, space: str) -> None:
    """Another uid is a conflict in a PUT, and the change of an immutable field in a patch or an apply."""
    one = path(MODELS, space, "smollm2")
    created = server.create(path(MODELS, space), a_model())
    meta = {"uid": "another", "labels": {"a": "b"}}
    put = server.ask("PUT", one, created | {"metadata": created["metadata"] | meta})
    assert (put.code, "Precondition failed: UID in precondition: another" in put.message) == (409, True)
    for reply in (
        server.patch(one, {"metadata": meta}),
        server.apply(one, a_model(meta=meta), "one", force=True),
    ):
        assert (reply.code, reply.message) == (
            422,
            'Model.ai.flexinfer "smollm2" is invalid: metadata.uid: Invalid value: "another": field is immutable',
        )


def test_a_wrong_uid_on_the_status_of_a_model_is_ignored(server: ApiServer, space: str) -> None:
    """There, only the resourceVersion protects a namesake from a write for a deleted Model."""
    server.create(path(MODELS, space), a_model())
    status = path(MODELS, space, "smollm2", "status")
    body = {"metadata": {"uid": "another"}, "status": {"phase": "Ready"}}
    assert server.patch(status, body, MERGE).code == 200
    stale = {"metadata": {"resourceVersion": "1"}, "status": {"phase": "Failed"}}
    assert server.patch(status, stale, MERGE).code == 409
    assert server.get(path(MODELS, space, "smollm2"))["status"] == {"phase": "Ready"}


def test_generation_counts_changes_of_the_spec_alone(server: ApiServer, space: str) -> None:
    """Neither metadata nor status move it."""
    server.create(path(MODELS, space), a_model())
    one = path(MODELS, space, "smollm2")
    server.patch(one, {"metadata": {"labels": {"a": "b"}}})
    set_status(server, space, phase="Ready")
    same = server.get(one)["metadata"]["generation"]
    server.patch(one, {"spec": {"source": "pvc://models/other.gguf"}})
    assert (same, server.get(one)["metadata"]["generation"]) == (1, 2)


def test_status_is_written_by_its_own_path_alone(server: ApiServer, space: str) -> None:
    """A write of the object ignores the status; a write of the subresource changes only the status."""
    created = server.create(path(MODELS, space), a_model() | {"status": {"phase": "Ready"}})
    one = path(MODELS, space, "smollm2")
    assert "status" not in created
    server.patch(one, {"status": {"phase": "Ready"}})
    assert "status" not in server.get(one)
    server.patch(f"{one}/status", {"status": {"conditions": ready()}, "spec": {"backend": "vllm"}})
    obj = server.get(one)
    assert (obj["spec"]["backend"], obj["status"]["conditions"]) == ("llamacpp", ready())


def test_a_write_without_changes_keeps_the_resource_version(server: ApiServer, space: str) -> None:
    """So watchers get no event."""
    created = server.create(path(MODELS, space), a_model())
    again = server.patch(path(MODELS, space, "smollm2"), {"spec": created["spec"]}).json
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


def test_a_dry_run_returns_the_result_and_writes_nothing(server: ApiServer, space: str) -> None:
    """For create, patch and delete."""
    assert (
        server.create(path(MODELS, space), a_model(), dryRun="All")["spec"]["serverless"]["enabled"] is True
    )
    assert server.get(path(MODELS, space))["items"] == []
    server.create(path(MODELS, space), a_model())
    one = path(MODELS, space, "smollm2")
    assert server.patch(one, {"spec": {"gpu": {}}}, dryRun="All").json["spec"]["gpu"]["vendor"] == "auto"
    assert server.ask("DELETE", one, dryRun="All").code == 200
    assert "gpu" not in server.get(one)["spec"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"dryRun": "Some"}, "dryRun: Unsupported value"),
        ({"fieldValidation": "Hard"}, "fieldValidation: Unsupported value"),
    ],
)
def test_an_invalid_option_is_refused(
    server: ApiServer, space: str, query: dict[str, Any], message: str
) -> None:
    """It is not ignored."""
    reply = server.ask("POST", path(MODELS, space), a_model(), **query)
    assert (reply.code, message in reply.message) == (422, True), reply.message


def test_nothing_is_created_in_a_namespace_that_does_not_exist(server: ApiServer) -> None:
    """404, with its name."""
    reply = server.ask("POST", path(MODELS, "none-such"), a_model())
    assert (reply.code, reply.message) == (404, 'namespaces "none-such" not found')


def test_nothing_is_readable_without_the_token(server: ApiServer) -> None:
    """Not even discovery."""
    for where in ("/api", "/openapi/v3", path(MODELS, "default")):
        reply = server.ask("GET", where, headers={"Authorization": "Bearer wrong"})
        assert (reply.code, reply.message) == (401, "Unauthorized")
