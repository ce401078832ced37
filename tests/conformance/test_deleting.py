"""Deletion: preconditions, finalizers, garbage collection, and namespaces with their contents."""

import pytest

from flexinfer.local.instance import LOCAL
from tests.apiserver import ApiServer, Object
from tests.conformance.objects import (
    FINALIZER,
    MAPS,
    MODELS,
    NAMESPACES,
    PODS,
    a_map,
    a_model,
    a_pod,
    names,
    owned_by,
    path,
)
from tests.instance import until

_SECONDS = 30


def gone(server: ApiServer, where: str) -> None:
    """Wait until an object is deleted."""
    until(lambda: server.ask("GET", where).code == 404, _SECONDS, f"{where} is gone")


def test_a_delete_returns_the_uid_of_the_object(server: ApiServer, space: str) -> None:
    """In a Status with Success."""
    created = server.create(path(MODELS, space), a_model())
    reply = server.ask("DELETE", path(MODELS, space, "smollm2"))
    assert (reply.code, reply.json["status"]) == (200, "Success")
    assert reply.json["details"] == {
        "name": "smollm2",
        "group": "ai.flexinfer",
        "kind": "models",
        "uid": created["metadata"]["uid"],
    }
    assert server.ask("DELETE", path(MODELS, space, "smollm2")).code == 404


@pytest.mark.parametrize(
    ("precondition", "words"),
    [
        ({"uid": "another"}, "the UID in the precondition (another)"),
        ({"resourceVersion": "1"}, "ResourceVersion in the"),
    ],
    ids=["uid", "resourceVersion"],
)
def test_a_failed_precondition_is_a_conflict(
    server: ApiServer, space: str, precondition: dict[str, str], words: str
) -> None:
    """So no client deletes a namesake."""
    server.create(path(MODELS, space), a_model())
    reply = server.ask("DELETE", path(MODELS, space, "smollm2"), {"preconditions": precondition})
    assert (reply.code, words in reply.message) == (409, True), reply.message
    assert server.ask("GET", path(MODELS, space, "smollm2")).code == 200


def test_a_satisfied_precondition_deletes(server: ApiServer, space: str) -> None:
    """Uid and resourceVersion."""
    meta = server.create(path(MODELS, space), a_model())["metadata"]
    preconditions = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    assert server.ask("DELETE", path(MODELS, space, "smollm2"), {"preconditions": preconditions}).code == 200


def test_a_finalizer_keeps_an_object_until_it_is_removed(server: ApiServer, space: str) -> None:
    """It has a deletionTimestamp; its spec may still change, but no finalizer can be added."""
    server.create(path(MODELS, space), a_model(meta={"finalizers": [FINALIZER]}))
    one = path(MODELS, space, "smollm2")
    first = server.ask("DELETE", one).json["metadata"]
    again = server.ask("DELETE", one).json["metadata"]
    assert (first["deletionTimestamp"], first["generation"]) == (again["deletionTimestamp"], 2)
    added = server.patch(one, {"metadata": {"finalizers": [FINALIZER, "a.b/c"]}})
    assert (added.code, "no new finalizers can be added" in added.message) == (422, True)
    assert server.patch(one, {"spec": {"nodeSelector": {"a": "b"}}}).code == 200
    assert server.patch(one, {"metadata": {"finalizers": None}}).code == 200
    assert server.ask("GET", one).code == 404


def test_a_name_can_be_reused_with_another_uid(server: ApiServer, space: str) -> None:
    """As soon as the previous object is deleted."""
    first, second = (
        (server.create(path(MODELS, space), a_model()), server.ask("DELETE", path(MODELS, space, "smollm2")))[
            0
        ]
        for _ in "12"
    )
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


def test_a_collection_is_deleted_by_selection(server: ApiServer, space: str) -> None:
    """Objects that do not match stay."""
    for name, size in (("a", "small"), ("b", "small"), ("c", "large")):
        server.create(path(MODELS, space), a_model(name, {"labels": {"size": size}}))
    assert server.ask("DELETE", path(MODELS, space), labelSelector="size=small").code == 200
    assert names(server.get(path(MODELS, space))) == ["c"]


def family(server: ApiServer, space: str, **reference: object) -> Object:
    """Create a Model, a Pod and a ConfigMap that it owns, and a ConfigMap without an owner.

    Return the Model.
    """
    owner: Object = server.create(path(MODELS, space), a_model())
    meta = owned_by(owner, **reference)
    server.create(path(PODS, space), a_pod("waits", meta))
    server.create(path(MAPS, space), a_map("owned", meta))
    server.create(path(MAPS, space), a_map("free"))
    return owner


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_deleting_a_model_deletes_what_it_owned_and_nothing_else(
    server: ApiServer, space: str, policy: str
) -> None:
    """By the garbage collector."""
    family(server, space, blockOwnerDeletion=True, controller=True)
    server.ask("DELETE", path(MODELS, space, "smollm2"), {"propagationPolicy": policy})
    for where in (path(MODELS, space, "smollm2"), path(PODS, space, "waits"), path(MAPS, space, "owned")):
        gone(server, where)
    assert server.ask("GET", path(MAPS, space, "free")).code == 200


def test_foreground_deletion_waits_for_owned_objects(server: ApiServer, space: str) -> None:
    """The owner keeps the finalizer foregroundDeletion until the last blocking object is deleted."""
    owner = server.create(path(MODELS, space), a_model())
    meta = owned_by(owner, blockOwnerDeletion=True) | {"finalizers": [FINALIZER]}
    server.create(path(MAPS, space), a_map("held", meta))
    one, held = path(MODELS, space, "smollm2"), path(MAPS, space, "held")
    reply = server.ask("DELETE", one, {"propagationPolicy": "Foreground"})
    assert reply.json["metadata"]["finalizers"] == ["foregroundDeletion"]
    until(
        lambda: "deletionTimestamp" in server.get(held)["metadata"],
        _SECONDS,
        "the owned object is being deleted",
    )
    assert server.ask("GET", one).code == 200
    server.patch(held, {"metadata": {"finalizers": None}})
    gone(server, one)


def test_orphans_stay_without_owner_references(server: ApiServer, space: str) -> None:
    """With the propagation policy Orphan."""
    family(server, space)
    server.ask("DELETE", path(MODELS, space, "smollm2"), {"propagationPolicy": "Orphan"})
    gone(server, path(MODELS, space, "smollm2"))
    for where in (path(PODS, space, "waits"), path(MAPS, space, "owned")):
        assert "ownerReferences" not in server.get(where)["metadata"]


def test_an_object_with_two_owners_is_deleted_with_the_last(server: ApiServer, space: str) -> None:
    """The deletion of the first only removes its reference."""
    owners = [server.create(path(MODELS, space), a_model(name)) for name in ("one", "two")]
    meta = {"ownerReferences": [owned_by(owner)["ownerReferences"][0] for owner in owners]}
    server.create(path(MAPS, space), a_map("owned", meta))
    owned = path(MAPS, space, "owned")
    server.ask("DELETE", path(MODELS, space, "one"))
    until(
        lambda: len(server.get(owned)["metadata"]["ownerReferences"]) == 1, _SECONDS, "one reference is left"
    )
    server.ask("DELETE", path(MODELS, space, "two"))
    gone(server, owned)


def test_an_object_whose_owner_does_not_exist_is_collected(server: ApiServer, space: str) -> None:
    """The owner reference has a uid that never existed."""
    absent = a_model("absent") | {
        "metadata": {"name": "absent", "uid": "01234567-89ab-cdef-0123-456789abcdef"}
    }
    server.create(path(MAPS, space), a_map("owned", owned_by(absent)))
    gone(server, path(MAPS, space, "owned"))


def test_a_namespace_is_deleted_with_its_contents(server: ApiServer, space: str) -> None:
    """No object can be created meanwhile; a finalizer of an object blocks it, and a condition says so."""
    server.create(path(MODELS, space), a_model(meta={"finalizers": [FINALIZER]}))
    server.create(path(MAPS, space), a_map("m"))
    where = f"{NAMESPACES}/{space}"
    assert server.ask("DELETE", where).json["status"]["phase"] == "Terminating"
    late = server.ask("POST", path(MAPS, space), a_map("late"))
    assert (late.code, "because it is being terminated" in late.message) == (403, True)
    until(lambda: _remaining(server, where) == {"True"}, _SECONDS, "a condition says that content remains")
    assert server.ask("GET", path(MAPS, space, "m")).code == 404
    server.patch(path(MODELS, space, "smollm2"), {"metadata": {"finalizers": None}})
    gone(server, where)


def _remaining(server: ApiServer, where: str) -> set[str]:
    conditions = server.get(where)["status"].get("conditions", ())
    return {
        one["status"]
        for one in conditions
        if one["type"] in ("NamespaceContentRemaining", "NamespaceFinalizersRemaining")
    }


@pytest.mark.parametrize("name", ["default", "kube-system"])
def test_a_system_namespace_cannot_be_deleted(server: ApiServer, name: str) -> None:
    """403."""
    if server.kind == LOCAL and name != "default":
        return  # it has no other one
    reply = server.ask("DELETE", f"{NAMESPACES}/{name}")
    assert (reply.code, reply.message) == (
        403,
        f'namespaces "{name}" is forbidden: this namespace may not be deleted',
    )
