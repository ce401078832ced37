"""Reading: lists in order and in pages, selected by labels and fields, as objects, as a Table or as metadata alone."""

from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.conformance.objects import (
    FAR,
    MAPS,
    MODELS,
    PODS,
    a_map,
    a_model,
    a_pod,
    names,
    path,
    ready,
    set_status,
)

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


def three(server: ApiServer, space: str) -> None:
    """Create three Models: two sizes, two backends, one group."""
    server.create(path(MODELS, space), a_model("a", {"labels": {"size": "small", "gpu": "no"}}))
    server.create(
        path(MODELS, space), a_model("b", {"labels": {"size": "large"}}, backend="vllm", source="HF://a/b")
    )
    server.create(path(MODELS, space), a_model("c", gpu={"shared": "card"}))


def test_a_list_is_of_a_version_and_its_items_are_in_order(server: ApiServer, space: str) -> None:
    """By name, each whole."""
    three(server, space)
    found = server.get(path(MODELS, space))
    assert (found["kind"], found["apiVersion"], names(found)) == (
        "ModelList",
        "ai.flexinfer/v1alpha2",
        ["a", "b", "c"],
    )
    assert int(found["metadata"]["resourceVersion"]) >= max(
        int(item["metadata"]["resourceVersion"]) for item in found["items"]
    )
    assert [item["kind"] for item in found["items"]] == ["Model"] * 3


def test_a_list_over_all_namespaces_holds_ours(server: ApiServer, space: str) -> None:
    """Namespaces first, then names."""
    three(server, space)
    found = server.get("/apis/ai.flexinfer/v1alpha2/models", fieldSelector=f"metadata.namespace={space}")
    assert names(found) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ("size=small", ["a"]),
        ("size==large", ["b"]),
        ("size!=small", ["b", "c"]),
        ("size", ["a", "b"]),
        ("!size", ["c"]),
        ("size in (small, large),gpu", ["a"]),
        ("size notin (small)", ["b", "c"]),
        ("size=none", []),
    ],
)
def test_labels_select(server: ApiServer, space: str, selector: str, wanted: list[str]) -> None:
    """Equality, sets, presence, and what has no such label."""
    three(server, space)
    assert names(server.get(path(MODELS, space), labelSelector=selector)) == wanted


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ("metadata.name=b", ["b"]),
        ("metadata.name!=b", ["a", "c"]),
        ("spec.backend=vllm", ["b"]),
        ("spec.gpu.shared=card,spec.backend=llamacpp", ["c"]),
        ("spec.gpu.shared=", ["a", "b"]),
    ],
)
def test_fields_select(server: ApiServer, space: str, selector: str, wanted: list[str]) -> None:
    """Names, and the fields that the definition makes selectable."""
    three(server, space)
    assert names(server.get(path(MODELS, space), fieldSelector=selector)) == wanted


@pytest.mark.parametrize(
    ("kind", "selector", "message"),
    [
        (MODELS, "spec.source=x", "field label not supported: spec.source"),
        (PODS, "spec.image=x", "field label not supported: spec.image"),
        (
            MAPS,
            "data=x",
            '"data" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
    ],
)
def test_other_fields_do_not(
    server: ApiServer, space: str, kind: tuple[str, str], selector: str, message: str
) -> None:
    """And that is said, not ignored."""
    reply = server.ask("GET", path(kind, space), fieldSelector=selector)
    assert (reply.code, reply.message) == (400, message)


def test_pods_are_selected_by_node_and_phase(server: ApiServer, space: str) -> None:
    """As a node and a controller do."""
    server.create(path(PODS, space), a_pod("waits"))
    server.create(path(PODS, space), a_pod("sits", schedulingGates=[], nodeName=FAR))
    chosen = [
        names(server.get(path(PODS, space), fieldSelector=selector))
        for selector in (
            f"spec.nodeName={FAR}",
            "spec.nodeName=",
            "status.phase=Pending",
            "status.phase=Running",
        )
    ]
    assert chosen == [["sits"], ["waits"], ["sits", "waits"], []]


def test_a_large_list_comes_in_pages_of_one_version(server: ApiServer, space: str) -> None:
    """With what remains; what is written meanwhile is not in it."""
    for number in range(5):
        server.create(path(MAPS, space), a_map(f"m{number}", {"labels": {"paged": "yes"}}))
    first = server.get(path(MAPS, space), limit=2)
    server.create(path(MAPS, space), a_map("m9"))
    rest = server.get(path(MAPS, space), limit=90, **{"continue": first["metadata"]["continue"]})
    own = [name for name in names(first) + names(rest) if name.startswith("m")]
    assert own == ["m0", "m1", "m2", "m3", "m4"]
    assert first["metadata"]["remainingItemCount"] == len(rest["items"])
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]


def test_pages_of_a_selection_do_not_say_what_remains(server: ApiServer, space: str) -> None:
    """It is not known."""
    three(server, space)
    first = server.get(path(MODELS, space), limit=1, labelSelector="size")
    assert (names(first), "remainingItemCount" in first["metadata"]) == (["a"], False)
    rest = server.get(
        path(MODELS, space), limit=1, labelSelector="size", **{"continue": first["metadata"]["continue"]}
    )
    assert names(rest) == ["b"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "many"}, 400),
        ({"labelSelector": "(("}, 400),
        ({"continue": "nonsense"}, 400),
        ({"resourceVersion": "word"}, 400),
        ({"resourceVersion": "999999999"}, 504),
        ({"resourceVersionMatch": "NotOlderThan"}, 422),
        ({"watch": "1", "sendInitialEvents": "true"}, 422),
    ],
)
def test_a_question_that_cannot_be_understood_is_a_status(
    server: ApiServer, space: str, query: dict[str, Any], code: int
) -> None:
    """Never a trace, never a hang."""
    reply = server.ask("GET", path(MODELS, space), **query)
    assert (reply.code, reply.json["kind"]) == (code, "Status")


def test_a_model_is_a_row_with_the_columns_of_its_definition(server: ApiServer, space: str) -> None:
    """Cells, priorities and, unless told otherwise, the metadata of each."""
    server.create(path(MODELS, space), a_model(gpu={"shared": "card"}))
    set_status(server, space, phase="Ready", conditions=ready())
    table = server.ask("GET", path(MODELS, space), accept=TABLE).json
    columns = [(one["name"], one["type"], one["priority"]) for one in table["columnDefinitions"]]
    assert table["kind"] == "Table"
    assert columns[:3] == [("Name", "string", 0), ("Phase", "string", 0), ("Ready", "string", 0)]
    assert columns[6:8] == [("Age", "date", 0), ("Shared", "string", 1)]
    (row,) = table["rows"]
    assert row["cells"][:5] == ["smollm2", "Ready", "True", "Up", "llamacpp"]
    assert row["cells"][7:9] == ["card", 100]
    assert (row["object"]["kind"], "spec" in row["object"]) == ("PartialObjectMetadata", False)


@pytest.mark.parametrize(("include", "wanted"), [("Object", "Model"), ("None", None)])
def test_a_row_holds_as_much_of_its_object_as_is_asked_for(
    server: ApiServer, space: str, include: str, wanted: str | None
) -> None:
    """The whole, or nothing."""
    server.create(path(MODELS, space), a_model())
    table = server.ask("GET", path(MODELS, space, "smollm2"), accept=TABLE, includeObject=include).json
    (row,) = table["rows"]
    assert (row.get("object") or {}).get("kind") == wanted


def test_a_pod_is_a_row_as_people_know_it(server: ApiServer, space: str) -> None:
    """One word for what it is up to."""
    server.create(path(PODS, space), a_pod())
    table = server.ask("GET", path(PODS, space), accept=TABLE).json
    assert [one["name"] for one in table["columnDefinitions"]] == [
        *("Name", "Ready", "Status", "Restarts", "Age"),
        *("IP", "Node", "Nominated Node", "Readiness Gates"),
    ]
    assert table["rows"][0]["cells"][:4] == ["waits", "0/1", "SchedulingGated", "0"]


def test_metadata_alone_can_be_asked_for(server: ApiServer, space: str) -> None:
    """As the garbage collector does."""
    server.create(path(MODELS, space), a_model(meta={"labels": {"a": "b"}}))
    found = server.ask("GET", path(MODELS, space), accept=PARTIAL).json
    (item,) = found["items"]
    assert (found["kind"], item["kind"], sorted(item)) == (
        "PartialObjectMetadataList",
        "PartialObjectMetadata",
        ["apiVersion", "kind", "metadata"],
    )
    assert item["metadata"]["labels"] == {"a": "b"}
