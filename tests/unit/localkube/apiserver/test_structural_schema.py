"""Schemas: what is pruned, what is filled in, what is refused, and in which words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localkube.apiserver.pruning_and_defaulting import shape
from localkube.apiserver.schema_validation import check
from localkube.apiserver.structural_schema import MISSING, SchemaError, compile_schema

NUMBERS = {"type": "array", "items": {"type": "integer"}, "maxItems": 2}
BY_NAME = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 1, "maximum": 9}},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]*$"},
        "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "count": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 8},
        "ratio": {"type": "number", "exclusiveMinimum": True, "minimum": 0},
        "on": {"type": "boolean"},
        "since": {"type": "string", "format": "date-time"},
        "amount": {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^[0-9]+$",
        },
        "sleep": {
            "type": "object",
            "default": {},
            "properties": {"after": {"type": "string", "default": "5m"}},
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 2},
        "words": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
        "numbers": NUMBERS,
        "parts": BY_NAME,
        "maybe": {"type": "string", "nullable": True},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    },
}
PART = compile_schema(SCHEMA)
FILLED = {"name": "a", "colour": "red", "sleep": {"after": "5m"}}


def shaped(value: Any, old: Any = MISSING) -> tuple[Any, list[str]]:
    """Return a value as the schema has it, and the unknown fields that went."""
    unknown: list[str] = []
    return shape(PART, value, old, "", unknown), unknown


def wrong(**fields: Any) -> list[str]:
    """Return what is said against an object with these fields beside a good name."""
    value, _ = shaped({"name": "a"} | fields)
    return [f"{cause.field}: {cause.message}" for cause in check(PART, value)]


def test_fills_in_defaults_also_below_an_object_that_is_absent() -> None:
    """An absent `sleep` gets its default, and that gets its own."""
    assert shaped({"name": "a"}) == (FILLED, [])


def test_a_null_means_the_default_or_nothing() -> None:
    """Null in a field that may not be null takes the default, or goes; a nullable field keeps it."""
    assert shaped({"name": "a", "colour": None, "count": None, "maybe": None}) == (
        FILLED | {"maybe": None},
        [],
    )


def test_prunes_unknown_fields_and_names_each_by_its_path() -> None:
    """Lists are named with their index."""
    value = {"name": "a", "foo": 1, "sleep": {"bar": 2}, "parts": [{"name": "x", "baz": 3}]}
    assert shaped(value)[1] == ["foo", "sleep.bar", "parts[0].baz"]


def test_a_null_in_a_map_is_no_entry() -> None:
    """As Kubernetes has it; seen."""
    assert shaped({"name": "a", "words": {"k": None, "l": "x"}})[0]["words"] == {"l": "x"}


def test_a_refusal_is_fit_for_a_terminal() -> None:
    """What cannot be printed is escaped."""
    assert wrong(colour="\u202ex")[0].startswith('colour: Unsupported value: "\\u202ex"')


def test_keeps_what_a_free_object_holds() -> None:
    """x-kubernetes-preserve-unknown-fields: nothing below is touched."""
    assert shaped({"name": "a", "free": {"deep": {"er": None}}})[0]["free"] == {"deep": {"er": None}}


def test_reads_a_whole_float_as_an_integer() -> None:
    """JSON has one kind of number."""
    count = shaped({"name": "a", "count": 3.0})[0]["count"]
    assert (count, type(count)) == (3, int)


def test_does_not_change_what_it_was_given() -> None:
    """Defaults land in a copy."""
    given_value: dict[str, Any] = {"name": "a", "sleep": {}}
    shaped(given_value)
    assert given_value == {"name": "a", "sleep": {}}


def test_shares_what_did_not_change_with_the_former_object() -> None:
    """An equal part comes back as the former one itself."""
    old, _ = shaped({"name": "a", "parts": [{"name": "x"}, {"name": "y"}]})
    new, _ = shaped({"name": "b", "parts": [{"name": "y"}, {"name": "z"}]}, old)
    assert (new["sleep"] is old["sleep"], new["parts"][0] is old["parts"][1]) == (True, True)


def test_a_true_in_place_of_a_one_is_a_change() -> None:
    """They are equal in Python, and not in JSON."""
    old, _ = shaped({"name": "a", "parts": [{"name": "x", "size": 1}]})
    new, _ = shaped({"name": "a", "parts": [{"name": "x", "size": True}]}, old)
    assert [cause.field for cause in check(PART, new, old)] == ["parts[0].size"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param(
            {"name": 3},
            'name: Invalid value: "integer": name in body must be of type string: "integer"',
            id="type",
        ),
        pytest.param(
            {"on": "yes"},
            'on: Invalid value: "string": on in body must be of type boolean: "string"',
            id="boolean",
        ),
        pytest.param(
            {"count": True},
            'count: Invalid value: "boolean": count in body must be of type integer: "boolean"',
            id="a boolean is no number",
        ),
        pytest.param(
            {"count": 2**40},
            'count: Invalid value: "integer": count in body must be of type integer: "integer"',
            id="beyond int32",
        ),
        pytest.param(
            {"free": "x"},
            'free: Invalid value: "string": free in body must be of type object: "string"',
            id="not an object",
        ),
        pytest.param(
            {"numbers": ["x"]},
            'numbers[0]: Invalid value: "string": numbers[0] in body must be of type integer: "string"',
            id="item",
        ),
        pytest.param(
            {"words": {"k": 1}},
            'words.k: Invalid value: "integer": words.k in body must be of type string: "integer"',
            id="map value",
        ),
        pytest.param(
            {"colour": "green"},
            'colour: Unsupported value: "green": supported values: "red", "blue"',
            id="enum",
        ),
        pytest.param({"name": "toolong"}, "name: Too long: may not be more than 5 bytes", id="length"),
        pytest.param(
            {"name": ""},
            'name: Invalid value: "": name in body should be at least 1 chars long',
            id="too short",
        ),
        pytest.param(
            {"name": "A"}, "name: Invalid value: \"A\": name in body should match '^[a-z]*$'", id="pattern"
        ),
        pytest.param(
            {"name": "a\n"},
            "name: Invalid value: \"a\\n\": name in body should match '^[a-z]*$'",
            id="line break",
        ),
        pytest.param(
            {"amount": "x"},
            "amount: Invalid value: \"x\": amount in body should match '^[0-9]+$'",
            id="quantity",
        ),
        pytest.param(
            {"amount": 1.5},
            'amount: Invalid value: "number": amount in body must be of type integer,string: "number"',
            id="int or string",
        ),
        pytest.param(
            {"count": 9},
            "count: Invalid value: 9: count in body should be less than or equal to 8",
            id="maximum",
        ),
        pytest.param(
            {"count": 0},
            "count: Invalid value: 0: count in body should be greater than or equal to 1",
            id="minimum",
        ),
        pytest.param(
            {"ratio": 0}, "ratio: Invalid value: 0: ratio in body should be greater than 0", id="exclusive"
        ),
        pytest.param({"numbers": [1, 2, 3]}, "numbers: Too many: 3: must have at most 2 items", id="items"),
        pytest.param(
            {"free": {"a": 1, "b": 2, "c": 3}},
            "free: Too many: 3: must have at most 2 items",
            id="properties",
        ),
        pytest.param(
            {"words": {}},
            "words: Invalid value: 0: words in body should have at least 1 properties",
            id="too few",
        ),
        pytest.param(
            {"since": "today"},
            'since: Invalid value: "today": since in body must be of type date-time: "today"',
            id="format",
        ),
        pytest.param({"tags": ["a", "a"]}, 'tags[1]: Duplicate value: "a"', id="set"),
        pytest.param(
            {"parts": [{"name": "x"}, {"name": "x"}]},
            'parts[1]: Duplicate value: {"name":"x"}',
            id="list map",
        ),
        pytest.param({"parts": [{}]}, "parts[0].name: Required value", id="required"),
    ],
)
def test_says_what_is_wrong_as_kubernetes_does(fields: dict[str, Any], said: str) -> None:
    """One field is wrong, and one sentence names it."""
    assert wrong(**fields) == [said]


def test_requires_what_is_required() -> None:
    """The name is missing."""
    value, _ = shaped({})
    assert [(cause.field, cause.message) for cause in check(PART, value)] == [("name", "Required value")]


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 8, "ratio": 0.5, "on": False, "amount": 7},
        {"amount": "12", "since": "2026-11-01T00:00:00.123456Z"},
        {"since": "2026-11-01T00:00:00+02:00", "words": {"k": ""}},
        {"numbers": [1, 2], "tags": ["a", "b"], "maybe": None},
    ],
)
def test_says_nothing_against_what_fits(fields: dict[str, Any]) -> None:
    """Bounds include their ends."""
    assert wrong(**fields) == []


def test_does_not_judge_again_what_stayed() -> None:
    """An old object that a later schema would refuse can still be changed elsewhere."""
    old = FILLED | {"name": "toolong"}
    new, _ = shaped(old | {"count": 2}, old)
    assert check(PART, new, old) == []


def test_judges_an_item_of_a_list_map_that_changed_and_no_other() -> None:
    """Items are told apart by their key, not their place."""
    old = FILLED | {"parts": [{"name": "x", "size": 50}]}
    new, _ = shaped(FILLED | {"parts": [{"name": "y", "size": 60}, {"name": "x", "size": 50}]}, old)
    assert [cause.field for cause in check(PART, new, old)] == ["parts[0].size"]


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            True,
            "must validate at least one schema (anyOf)",
        ),
        ({"oneOf": [{"minimum": 1}, {"maximum": 9}]}, 5, "must validate one and only one schema (oneOf)"),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 5, "should be less than or equal to 3"),
        ({"not": {"enum": [5]}}, 5, "must not validate the schema (not)"),
        ({"multipleOf": 2}, 5, "should be a multiple of 2"),
    ],
)
def test_knows_the_junctors(schema: dict[str, Any], value: Any, said: str) -> None:
    """allOf, anyOf, oneOf and not are checked on the value."""
    part = compile_schema({"type": "object", "properties": {"x": schema}})
    assert [said in cause.message for cause in check(part, {"x": value})] == [True]


@pytest.mark.parametrize("schema", [{"$ref": "#/x"}, {"pattern": "("}, {"patternProperties": {}}])
def test_refuses_a_schema_that_is_not_structural(schema: dict[str, Any]) -> None:
    """What cannot be honoured is refused when it is installed."""
    with pytest.raises(SchemaError):
        compile_schema({"type": "object", "properties": {"x": schema}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "x"]), below)
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_whatever_comes_is_shaped_once_and_judged_without_a_crash(value: Any, old: Any) -> None:
    """Shaping twice adds nothing, and no input makes it fail."""
    old = shape(PART, old)
    first = shape(PART, value, old)
    check(PART, first, old)
    assert shape(PART, first, first) is first
    assert shape(PART, first) == first
