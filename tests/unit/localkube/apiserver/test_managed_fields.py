"""Set operations on FieldsV1."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from localkube.apiserver.managed_fields import difference, intersection, paths, union

NAMES = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])


def node(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return inner nodes, some of which are members themselves."""
    children = st.dictionaries(NAMES, below, min_size=1, max_size=3)
    return children | children.map(lambda fields: {".": {}, **fields})


SETS: st.SearchStrategy[Any] = st.dictionaries(
    NAMES, st.recursive(st.just({}), node, max_leaves=6), max_size=3
)


def members(fields: Any) -> set[str]:
    """Return the members as a Python set."""
    return set(paths(fields))


@given(SETS, SETS)
def test_operations_equal_those_of_sets(left: Any, right: Any) -> None:
    """Union, difference and intersection of the members."""
    assert (
        members(union(left, right)),
        members(difference(left, right)),
        members(intersection(left, right)),
    ) == (members(left) | members(right), members(left) - members(right), members(left) & members(right))


@given(SETS)
def test_an_operation_without_effect_returns_its_argument(fields: Any) -> None:
    """Callers compare by identity."""
    assert union(fields, fields) is fields
    assert union(fields, {}) is fields
    assert difference(fields, {}) is fields
    assert difference(fields, {"f:zzz": {}}) is fields


def test_paths_are_written_as_in_kubernetes() -> None:
    """Fields with dots, list items by their keys."""
    fields: Any = {
        "f:spec": {"f:size": {}, 'k:{"name":"x","port":80}': {".": {}, "f:image": {}}, 'v:"y"': {}, "i:0": {}}
    }
    assert list(paths(fields)) == [
        ".spec.size",
        ".spec[0]",
        '.spec[name="x",port=80]',
        '.spec[name="x",port=80].image',
        '.spec[="y"]',
    ]
