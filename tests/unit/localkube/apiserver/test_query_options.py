"""The options of a query string."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from localkube.apiserver import query_options
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Query


@pytest.mark.parametrize(
    ("text", "meant"),
    [("true", True), ("True", True), ("1", True), ("false", False), ("0", False), ("", False)],
)
def test_whatever_is_not_a_way_to_say_no_is_yes(text: str, meant: bool) -> None:  # noqa: FBT001 -- a case of a table
    """Python's clients write True."""
    assert query_options.truth({"watch": text}, "watch") is meant


def test_the_manager_is_named_or_the_first_word_of_the_user_agent() -> None:
    """What managedFields will say."""
    agent = "kubectl/v1.37.1 (linux/amd64) kubernetes/abc"
    assert query_options.writing({}, agent) == Options(manager="kubectl")
    assert query_options.writing(
        {"fieldManager": "me", "dryRun": "All", "fieldValidation": "Strict"}, agent
    ) == Options(manager="me", dry_run=True, validation="Strict")


def test_a_single_object_is_a_selection_by_name() -> None:
    """For watches of one object."""
    assert query_options.selection({"fieldSelector": "spec.a=b", "limit": "5"}, "x") == Query(
        field_selector="spec.a=b,metadata.name=x", limit=5
    )


def test_the_body_of_a_delete_counts_before_its_query() -> None:
    """Kubectl sends a body, curl a query."""
    body: dict[str, Any] = {
        "propagationPolicy": "Orphan",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
    }
    given = {"propagationPolicy": "Foreground", "gracePeriodSeconds": "9"}
    assert query_options.deleting(given, body) == DeleteOptions(
        uid="u", propagation="Orphan", grace_seconds=0
    )
    assert query_options.deleting(given, None) == DeleteOptions(propagation="Foreground", grace_seconds=9)


def _patching(given: Mapping[str, str]) -> object:
    return query_options.patching(given, "", apply=False)


def _applying(given: Mapping[str, str]) -> object:
    return query_options.patching(given, "kubectl/1", apply=True)


def _deleting(given: Mapping[str, str]) -> object:
    return query_options.deleting(given, None)


@pytest.mark.parametrize(
    ("read", "given", "words"),
    [
        (_patching, {"force": "true"}, "force: Forbidden: may not be specified for non-apply patch"),
        (_applying, {}, "fieldManager: Required value: is required for apply patch"),
        (_patching, {"dryRun": "yes"}, "dryRun: Unsupported value"),
        (_patching, {"fieldValidation": "Hard"}, "fieldValidation: Unsupported value"),
        (_deleting, {"propagationPolicy": "Sideways"}, "propagationPolicy: Unsupported value"),
        (
            query_options.listed_version,
            {"resourceVersionMatch": "Exact"},
            "forbidden unless resourceVersion is provided",
        ),
        (query_options.listed_version, {"resourceVersion": "x"}, "invalid syntax"),
        (query_options.selection, {"limit": "many"}, "invalid syntax"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    read: Callable[[Mapping[str, str]], object], given: Mapping[str, str], words: str
) -> None:
    """In a real API server's words."""
    with pytest.raises(ApiError, match=words):
        read(given)
