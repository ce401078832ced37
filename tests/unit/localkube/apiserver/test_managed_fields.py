"""Sets of fields behave as sets."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from localkube.apiserver.managed_fields import difference, intersection, paths, union

NAMES = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])


def node(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return nodes, some of them members themselves."""
    children = st.dictionaries(NAMES, below, min_size=1, max_size=3)
    return children | children.map(lambda fields: {".": {}, **fields})


SETS: st.SearchStrategy[Any] = st.dictionaries(
    NAMES, st.recursive(st.just({}), node, max_leaves=6), max_size=3
)


def members(fields: Any) -> set[str]:
    """Return the set in the plain way."""
    return set(paths(fields))


@given(SETS, SETS)
def test_they_follow_the_algebra_of_sets(left: Any, right: Any) -> None:
    """Union, difference and intersection are those of their members."""
    assert (
        members(union(left, right)),
        members(difference(left, right)),
        members(intersection(left, right)),
    ) == (members(left) | members(right), members(left) - members(right), members(left) & members(right))


@given(SETS)
def test_they_are_themselves_where_nothing_changes(fields: Any) -> None:
    """Identity tells that nothing happened."""
    assert union(fields, fields) is fields
    assert union(fields, {}) is fields
    assert difference(fields, {}) is fields
    assert difference(fields, {"f:zzz": {}}) is fields


def test_they_are_told_as_kubernetes_tells_them() -> None:
    """Fields by dots, items by keys."""
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
