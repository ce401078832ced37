"""Selectors select what Kubernetes would."""

import pytest

from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Query
from localkube.apiserver.resources import Resource
from localkube.apiserver.selectors import label_predicate, predicate

PODS = Resource("", "v1", "pods", "Pod", namespaced=True)
LABELS = {"app": "llm", "tier": "gpu", "size": "7", "example.org/empty": ""}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True),
        ("app=llm", True),
        ("app==llm,tier=gpu", True),
        ("app=other", False),
        ("app!=other", True),
        ("missing!=x", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("missing", False),
        ("app in (a, llm)", True),
        ("app notin (a,llm)", False),
        ("missing notin (a)", True),
        ("missing in (a)", False),
        ("size>6", True),
        ("size<7", False),
        ("app>1", False),
        ("example.org/empty=", True),
        ("example.org/empty in ()", True),
        (" app = llm , ! missing ", True),
    ],
)
def test_selects_by_labels(selector: str, selected: bool) -> None:  # noqa: FBT001
    """Equality based and set based."""
    assert label_predicate(selector)(LABELS) is selected


@pytest.mark.parametrize(
    "selector", ["a=b=c", "a in b", "a in (b", "=b", "a?", "a>b", "a,", "-a", "a b", "a=$"]
)
def test_refuses_a_label_selector_that_cannot_be_read(selector: str) -> None:
    """A bad request, in Kubernetes' words."""
    with pytest.raises(ApiError, match="unable to parse requirement: found '") as error:
        label_predicate(selector)
    assert error.value.code == 400


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("metadata.name=p", True),
        ("metadata.name!=p", False),
        ("metadata.namespace=default,spec.nodeName=", True),
        ("status.phase==Pending", True),
        (r"spec.note=a\,b\=c", True),
    ],
)
def test_selects_by_fields(selector: str, selected: bool) -> None:  # noqa: FBT001
    """A missing field is an empty one."""
    pod = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"note": "a,b=c"},
        "status": {"phase": "Pending"},
    }
    fields = ("spec.nodeName", ".status.phase", "spec.note")
    assert predicate(PODS, Query(field_selector=selector), fields)(pod) is selected


def test_refuses_a_field_that_cannot_be_selected() -> None:
    """The text is that of a real API server."""
    with pytest.raises(ApiError) as error:
        predicate(PODS, Query(field_selector="spec.x=1"), ("spec.nodeName",))
    assert (error.value.code, error.value.message) == (
        400,
        "field label not supported: spec.x",
    )


def test_refuses_a_field_selector_without_an_operator() -> None:
    """A bare word is no requirement."""
    with pytest.raises(ApiError, match="invalid selector: 'a'; can't understand 'a'"):
        predicate(PODS, Query(field_selector="a"))
