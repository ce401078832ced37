"""The patch types, by the examples of their RFCs and by what Kubernetes answers."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localkube.apiserver.errors import ApiError
from localkube.apiserver.patch import json_patch, merge_patch, strategic_merge
from localkube.apiserver.resources import Object
from localkube.apiserver.structured_merge import same

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merges_as_its_rfc_says(target: Any, patch: Any, result: Any) -> None:
    """Every example of RFC 7386."""
    assert merge_patch(target, patch) == result


@given(JSON, JSON)
def test_a_merge_patch_twice_is_once_and_changes_nothing_in_place(target: Any, patch: Any) -> None:
    """It is idempotent, and does not modify its arguments."""
    before = copy.deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert same(merge_patch(once, patch), once)
    assert same(list(before), [target, patch])


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [  # RFC 6902, appendix A
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux"}],
            {"baz": "qux", "foo": "bar"},
            id="add",
        ),
        pytest.param(
            {"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}, id="insert"
        ),
        pytest.param({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}, id="append"),
        pytest.param({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}, id="remove"),
        pytest.param({"a": [1, 2, 3]}, [{"op": "remove", "path": "/a/1"}], {"a": [1, 3]}, id="remove item"),
        pytest.param(
            {"a": [1, 2]}, [{"op": "replace", "path": "/a/0", "value": 9}], {"a": [9, 2]}, id="replace item"
        ),
        pytest.param(
            {"a": {"b": 1}, "c": {}},
            [{"op": "move", "from": "/a/b", "path": "/c/d"}],
            {"a": {}, "c": {"d": 1}},
            id="move",
        ),
        pytest.param(
            {"a": [1, 2]}, [{"op": "copy", "from": "/a/0", "path": "/a/-"}], {"a": [1, 2, 1]}, id="copy"
        ),
        pytest.param(
            {"/": 9, "~1": 10},
            [{"op": "test", "path": "/~01", "value": 10}],
            {"/": 9, "~1": 10},
            id="escapes",
        ),
        pytest.param({"a": 1}, [{"op": "replace", "path": "", "value": [1]}], [1], id="whole"),
        pytest.param(
            {"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}, id="missing equals null"
        ),
    ],
)
def test_applies_operations_as_their_rfc_says(target: Any, operations: Any, result: Any) -> None:
    """The examples of RFC 6902 that Kubernetes follows."""
    before = copy.deepcopy(target)
    assert (json_patch(target, operations), target) == (result, before)


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        pytest.param([{"op": "test", "path": "/a", "value": 2}], 422, id="test fails"),
        pytest.param([{"op": "test", "path": "/a", "value": True}], 422, id="true is not 1"),
        pytest.param([{"op": "remove", "path": "/b"}], 422, id="nothing to remove"),
        pytest.param([{"op": "replace", "path": "/b/c", "value": 1}], 422, id="nothing to replace below"),
        pytest.param([{"op": "add", "path": "/b/c", "value": 1}], 422, id="no parent"),
        pytest.param([{"op": "add", "path": "/l/3", "value": 1}], 422, id="beyond the end"),
        pytest.param([{"op": "add", "path": "/l/01", "value": 1}], 422, id="no index"),
        pytest.param([{"op": "add", "path": "/a/x", "value": 1}], 422, id="parent is a number"),
        pytest.param([{"op": "add", "path": "/b"}], 422, id="no value"),
        pytest.param([{"op": "add", "path": "b", "value": 1}], 400, id="no pointer"),
        pytest.param([{"op": "turn", "path": "/b"}], 422, id="unknown operation"),
        pytest.param({"op": "add"}, 400, id="no list"),
    ],
)
def test_refuses_inapplicable_operations(operations: Any, code: int) -> None:
    """422 for what does not apply to the object, 400 for what is not a JSON patch."""
    with pytest.raises(ApiError) as error:
        json_patch({"a": 1, "l": [1]}, operations)
    assert error.value.code == code


def test_a_failed_test_has_the_message_of_kubernetes() -> None:
    """Which kubectl prints."""
    with pytest.raises(ApiError) as error:
        json_patch({}, [{"op": "test", "path": "/a", "value": 1}])
    assert (error.value.reason, error.value.message) == (
        "Invalid",
        "the server rejected our request due to an error in our request",
    )


def env(*names: str) -> list[Object]:
    """Return environment entries."""
    return [{"name": name, "value": name} for name in names]


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        pytest.param(
            {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]},
            {"containers": [{"name": "b", "image": "2"}, {"name": "c"}]},
            {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]},
            id="containers by name",
        ),
        pytest.param(
            {"containers": [{"name": "a", "env": env("x", "y")}]},
            {
                "containers": [
                    {"name": "a", "env": [{"name": "x", "$patch": "delete"}, {"name": "z", "value": "z"}]}
                ]
            },
            {"containers": [{"name": "a", "env": env("y", "z")}]},
            id="delete by key",
        ),
        pytest.param(
            {"ports": [{"containerPort": 80, "name": "a"}]},
            {"ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81}]},
            {"ports": [{"containerPort": 80, "name": "a", "protocol": "TCP"}, {"containerPort": 81}]},
            id="ports by number",
        ),
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "False", "reason": "a"}]},
            {"conditions": [{"type": "Ready", "status": "True"}]},
            {"conditions": [{"type": "Ready", "status": "True", "reason": "a"}]},
            id="conditions by type",
        ),
        pytest.param({"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}, id="plain lists are replaced"),
        pytest.param(
            {"finalizers": ["a", "b"]},
            {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
            {"finalizers": ["b", "c"]},
            id="finalizers are a set",
        ),
        pytest.param(
            {"containers": env("a", "b")},
            {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": []},
            {"containers": list(reversed(env("a", "b")))},
            id="order",
        ),
        pytest.param(
            {"strategy": {"type": "a", "rolling": {}}},
            {"strategy": {"$retainKeys": ["type"], "type": "b"}},
            {"strategy": {"type": "b"}},
            id="retained keys",
        ),
        pytest.param(
            {"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}, id="replace a map"
        ),
        pytest.param(
            {"volumes": env("a")},
            {"volumes": [{"$patch": "replace"}, {"name": "b"}]},
            {"volumes": [{"name": "b"}]},
            id="replace a list",
        ),
        pytest.param({"a": 1, "b": 2}, {"a": None}, {"b": 2}, id="null removes"),
    ],
)
def test_merges_known_lists_by_their_keys(target: Object, patch: Object, result: Object) -> None:
    """What kubectl sends for built-in kinds."""
    before = copy.deepcopy(target)
    assert (strategic_merge(target, patch), target) == (result, before)


def test_refuses_an_item_without_its_key() -> None:
    """A container without a name cannot be merged."""
    with pytest.raises(ApiError, match="does not contain declared merge key: name"):
        strategic_merge({}, {"containers": [{"image": "a"}]})
