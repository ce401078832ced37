"""Tables: the rows of custom resources, by their definition's columns."""

from datetime import UTC, datetime
from typing import Any

import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.errors import ApiError
from localkube.apiserver.registry import Registry
from localkube.apiserver.requests import Listing
from localkube.apiserver.resources import Resource
from localkube.apiserver.tables import Form, ResponseTransformer, form

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
COLUMNS: list[dict[str, Any]] = [
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Position", "type": "integer", "jsonPath": ".status.position", "priority": 1},
    {"name": "Share", "type": "number", "jsonPath": ".status.share"},
    {"name": "Calm", "type": "boolean", "jsonPath": ".status.calm"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def a_definition() -> dict[str, Any]:
    """Return a CustomResourceDefinition with a column of every type."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        "additionalPrinterColumns": COLUMNS,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [version],
        },
    }


@pytest.fixture
def registry() -> Registry:
    """Return a registry that serves things."""
    registry = builtin_registry()
    registry.install(a_definition())
    return registry


@pytest.fixture
def things(registry: Registry) -> Resource:
    """Return the resource of things."""
    res = registry.find("example.com", "v1", "things")
    assert res is not None
    return res


@pytest.fixture
def transformer(registry: Registry) -> ResponseTransformer:
    """Return a transformer at a fixed time."""
    return ResponseTransformer(registry, lambda: NOW)


def a_thing(**status: Any) -> dict[str, Any]:
    """Return a thing, a minute old."""
    metadata = {
        "name": "t",
        "namespace": "n",
        "resourceVersion": "7",
        "creationTimestamp": "2026-11-24T11:58:59Z",
    }
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata, "status": status}


def cells(transformer: ResponseTransformer, things: Resource, obj: dict[str, Any]) -> list[Any]:
    """Return the cells of the only row."""
    return list(transformer.one(things, obj, Form("Table"))["rows"][0]["cells"])


def test_each_type_of_column_shows_values_of_its_type(
    transformer: ResponseTransformer, things: Resource
) -> None:
    """Dates as ages."""
    full = a_thing(
        phase="Ready", position=3, share=1, calm=True, conditions=[{"type": "Ready", "status": "True"}]
    )
    assert cells(transformer, things, full) == ["t", "Ready", "True", 3, 1.0, True, "61s"]


def test_what_is_missing_or_of_another_type_is_null(
    transformer: ResponseTransformer, things: Resource
) -> None:
    """Kubectl prints <none> then."""
    assert cells(transformer, things, a_thing()) == ["t", None, None, None, None, None, "61s"]
    wrong = a_thing(phase={"a": 1}, position="3", share="x", calm="yes")
    assert cells(transformer, things, wrong) == ["t", '{"a":1}', None, None, None, None, "61s"]


def test_a_table_has_the_metadata_of_the_list(transformer: ResponseTransformer, things: Resource) -> None:
    """Its resourceVersion and continue token."""
    table = transformer.many(things, Listing((a_thing(),), "9", "next", 4), Form("Table"))
    assert table["metadata"] == {"resourceVersion": "9", "continue": "next", "remainingItemCount": 4}
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name",
        *(column["name"] for column in COLUMNS),
    ]


@pytest.mark.parametrize(
    ("include", "kind"),
    [("", "PartialObjectMetadata"), ("Metadata", "PartialObjectMetadata"), ("Object", "Thing")],
)
def test_a_row_has_the_included_object(
    transformer: ResponseTransformer, things: Resource, include: str, kind: str
) -> None:
    """Metadata by default."""
    row = transformer.one(things, a_thing(), Form("Table", include))["rows"][0]
    assert row["object"]["kind"] == kind


def test_a_row_may_have_no_object(transformer: ResponseTransformer, things: Resource) -> None:
    """includeObject=None."""
    assert transformer.one(things, a_thing(), Form("Table", "None"))["rows"][0]["object"] is None


def test_an_unknown_include_is_refused() -> None:
    """With a 400."""
    with pytest.raises(ApiError) as refused:
        form("Table", "Everything")
    assert refused.value.code == 400


def test_a_list_may_have_metadata_only(transformer: ResponseTransformer, things: Resource) -> None:
    """As garbage collectors request it."""
    only = transformer.many(things, Listing((a_thing(),), "9"), form("PartialObjectMetadataList", ""))
    assert only["kind"] == "PartialObjectMetadataList"
    assert set(only["items"][0]) == {"kind", "apiVersion", "metadata"}


def test_whole_objects_come_as_a_list_of_their_kind(
    transformer: ResponseTransformer, things: Resource
) -> None:
    """As they are stored."""
    thing = a_thing()
    whole = transformer.many(things, Listing((thing,), "9"), Form())
    assert (whole["kind"], whole["apiVersion"], list(whole["items"])) == (
        "ThingList",
        "example.com/v1",
        [thing],
    )
