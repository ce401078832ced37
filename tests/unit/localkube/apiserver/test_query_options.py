"""Parsing and validation of query parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from localkube.apiserver import query_options
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Query


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("True", True), ("1", True), ("false", False), ("0", False), ("", False)],
)
def test_a_flag_is_true_unless_it_spells_false(text: str, expected: bool) -> None:  # noqa: FBT001 -- a case of a table
    """The Python client sends True."""
    assert query_options.parse_bool({"watch": text}, "watch") is expected


def test_the_default_field_manager_is_from_the_user_agent() -> None:
    """Up to its first slash."""
    agent = "kubectl/v1.37.1 (linux/amd64) kubernetes/abc"
    assert query_options.write_options({}, agent) == Options(manager="kubectl")
    assert query_options.write_options(
        {"fieldManager": "me", "dryRun": "All", "fieldValidation": "Strict"}, agent
    ) == Options(manager="me", dry_run=True, validation="Strict")


def test_a_single_object_is_a_selection_by_name() -> None:
    """As in a watch of one object."""
    assert query_options.list_query({"fieldSelector": "spec.a=b", "limit": "5"}, "x") == Query(
        field_selector="spec.a=b,metadata.name=x", limit=5
    )


def test_the_body_of_a_delete_takes_precedence_over_its_query() -> None:
    """Kubectl sends a body, others a query."""
    body: dict[str, Any] = {
        "propagationPolicy": "Orphan",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
    }
    query = {"propagationPolicy": "Foreground", "gracePeriodSeconds": "9"}
    assert query_options.delete_options(query, body) == DeleteOptions(
        uid="u", propagation="Orphan", grace_seconds=0
    )
    assert query_options.delete_options(query, None) == DeleteOptions(
        propagation="Foreground", grace_seconds=9
    )


def _patching(query: Mapping[str, str]) -> object:
    return query_options.patch_options(query, "", apply=False)


def _applying(query: Mapping[str, str]) -> object:
    return query_options.patch_options(query, "kubectl/1", apply=True)


def _deleting(query: Mapping[str, str]) -> object:
    return query_options.delete_options(query, None)


@pytest.mark.parametrize(
    ("parse", "query", "message"),
    [
        (_patching, {"force": "true"}, "force: Forbidden: may not be specified for non-apply patch"),
        (_applying, {}, "fieldManager: Required value: is required for apply patch"),
        (_patching, {"dryRun": "yes"}, "dryRun: Unsupported value"),
        (_patching, {"fieldValidation": "Hard"}, "fieldValidation: Unsupported value"),
        (_deleting, {"propagationPolicy": "Sideways"}, "propagationPolicy: Unsupported value"),
        (
            query_options.list_version,
            {"resourceVersionMatch": "Exact"},
            "forbidden unless resourceVersion is provided",
        ),
        (query_options.list_version, {"resourceVersion": "x"}, "invalid syntax"),
        (query_options.list_query, {"limit": "many"}, "invalid syntax"),
    ],
)
def test_invalid_options_are_refused(
    parse: Callable[[Mapping[str, str]], object], query: Mapping[str, str], message: str
) -> None:
    """With the message of a real API server."""
    with pytest.raises(ApiError, match=message):
        parse(query)
