"""Reads: ordered and paged lists, selectors, and responses as objects, as a Table or as metadata only."""

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


def test_a_list_has_a_resource_version_and_sorted_items(server: ApiServer, space: str) -> None:
    """By name, each a complete object."""
    three(server, space)
    listing = server.get(path(MODELS, space))
    assert (listing["kind"], listing["apiVersion"], names(listing)) == (
        "ModelList",
        "ai.flexinfer/v1alpha2",
        ["a", "b", "c"],
    )
    assert int(listing["metadata"]["resourceVersion"]) >= max(
        int(item["metadata"]["resourceVersion"]) for item in listing["items"]
    )
    assert [item["kind"] for item in listing["items"]] == ["Model"] * 3


def test_a_list_over_all_namespaces_is_sorted(server: ApiServer, space: str) -> None:
    """By namespace, then by name."""
    three(server, space)
    listing = server.get("/apis/ai.flexinfer/v1alpha2/models", fieldSelector=f"metadata.namespace={space}")
    assert names(listing) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("selector", "expected"),
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
def test_label_selectors(server: ApiServer, space: str, selector: str, expected: list[str]) -> None:
    """Equality, sets, presence and absence."""
    three(server, space)
    assert names(server.get(path(MODELS, space), labelSelector=selector)) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=b", ["b"]),
        ("metadata.name!=b", ["a", "c"]),
        ("spec.backend=vllm", ["b"]),
        ("spec.gpu.shared=card,spec.backend=llamacpp", ["c"]),
        ("spec.gpu.shared=", ["a", "b"]),
    ],
)
def test_field_selectors(server: ApiServer, space: str, selector: str, expected: list[str]) -> None:
    """Names, and the selectable fields of the CRD."""
    three(server, space)
    assert names(server.get(path(MODELS, space), fieldSelector=selector)) == expected


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
def test_other_fields_are_refused_in_selectors(
    server: ApiServer, space: str, kind: tuple[str, str], selector: str, message: str
) -> None:
    """They are not ignored."""
    reply = server.ask("GET", path(kind, space), fieldSelector=selector)
    assert (reply.code, reply.message) == (400, message)


def test_pods_are_selected_by_node_and_phase(server: ApiServer, space: str) -> None:
    """As a kubelet and a controller do."""
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


def test_all_pages_of_a_list_have_the_same_version(server: ApiServer, space: str) -> None:
    """With remainingItemCount; objects created meanwhile are not included."""
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


def test_pages_of_a_selection_have_no_remaining_item_count(server: ApiServer, space: str) -> None:
    """The server does not know it."""
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
def test_an_invalid_query_is_answered_with_a_status(
    server: ApiServer, space: str, query: dict[str, Any], code: int
) -> None:
    """Never with a traceback, and without a hang."""
    reply = server.ask("GET", path(MODELS, space), **query)
    assert (reply.code, reply.json["kind"]) == (code, "Status")


def test_a_model_is_a_table_row_with_the_columns_of_its_crd(server: ApiServer, space: str) -> None:
    """Cells, column priorities and, by default, the metadata of each object."""
    server.create(path(MODELS, space), a_model(gpu={"shared": "card"}))
    set_status(server, space, phase="Ready", reason="Up", conditions=ready())
    table = server.ask("GET", path(MODELS, space), accept=TABLE).json
    columns = [(one["name"], one["type"], one["priority"]) for one in table["columnDefinitions"]]
    assert table["kind"] == "Table"
    assert columns[:3] == [("Name", "string", 0), ("Phase", "string", 0), ("Ready", "string", 0)]
    assert columns[6:9] == [("Cache", "string", 0), ("Age", "date", 0), ("Shared", "string", 1)]
    (row,) = table["rows"]
    assert row["cells"][:5] == ["smollm2", "Ready", "True", "Up", "llamacpp"]
    assert row["cells"][8:10] == ["card", 100]
    assert (row["object"]["kind"], "spec" in row["object"]) == ("PartialObjectMetadata", False)


@pytest.mark.parametrize(("include", "expected"), [("Object", "Model"), ("None", None)])
def test_a_row_has_as_much_of_its_object_as_requested(
    server: ApiServer, space: str, include: str, expected: str | None
) -> None:
    """The complete object or nothing, by includeObject."""
    server.create(path(MODELS, space), a_model())
    table = server.ask("GET", path(MODELS, space, "smollm2"), accept=TABLE, includeObject=include).json
    (row,) = table["rows"]
    assert (row.get("object") or {}).get("kind") == expected


def test_a_pod_is_a_table_row_with_the_usual_columns(server: ApiServer, space: str) -> None:
    """Its status is one word."""
    server.create(path(PODS, space), a_pod())
    table = server.ask("GET", path(PODS, space), accept=TABLE).json
    assert [one["name"] for one in table["columnDefinitions"]] == [
        *("Name", "Ready", "Status", "Restarts", "Age"),
        *("IP", "Node", "Nominated Node", "Readiness Gates"),
    ]
    assert table["rows"][0]["cells"][:4] == ["waits", "0/1", "SchedulingGated", "0"]


def test_metadata_only_can_be_requested(server: ApiServer, space: str) -> None:
    """As the garbage collector does."""
    server.create(path(MODELS, space), a_model(meta={"labels": {"a": "b"}}))
    listing = server.ask("GET", path(MODELS, space), accept=PARTIAL).json
    (item,) = listing["items"]
    assert (listing["kind"], item["kind"], sorted(item)) == (
        "PartialObjectMetadataList",
        "PartialObjectMetadata",
        ["apiVersion", "kind", "metadata"],
    )
    assert item["metadata"]["labels"] == {"a": "b"}
