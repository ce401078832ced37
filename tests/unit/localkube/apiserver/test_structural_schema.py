"""Pruning, defaulting and validation by structural schemas."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localkube.apiserver.pruning_and_defaulting import Walk, shape
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
NODE = compile_schema(SCHEMA)
FILLED = {"name": "a", "colour": "red", "sleep": {"after": "5m"}}


def shaped(value: Any, old: Any = MISSING) -> tuple[Any, list[str]]:
    """Return a value pruned and defaulted, and the paths of its unknown fields."""
    walk = Walk()
    return shape(NODE, value, old, "", walk), walk.unknown


def wrong(**fields: Any) -> list[str]:
    """Return the violations of an object with these fields and a valid name."""
    value, _ = shaped({"name": "a"} | fields)
    return [f"{cause.field}: {cause.message}" for cause in check(NODE, value)]


def test_defaults_apply_below_a_defaulted_object() -> None:
    """An absent `sleep` is defaulted, and so is its field."""
    assert shaped({"name": "a"}) == (FILLED, [])


def test_a_null_is_defaulted_or_dropped() -> None:
    """Unless the field is nullable."""
    assert shaped({"name": "a", "colour": None, "count": None, "maybe": None}) == (
        FILLED | {"maybe": None},
        [],
    )


def test_prunes_unknown_fields_and_names_each_by_its_path() -> None:
    """Lists are named with their index."""
    value = {"name": "a", "foo": 1, "sleep": {"bar": 2}, "parts": [{"name": "x", "baz": 3}]}
    assert shaped(value)[1] == ["foo", "sleep.bar", "parts[0].baz"]


def test_a_null_in_a_map_is_no_entry() -> None:
    """As observed on a real API server."""
    assert shaped({"name": "a", "words": {"k": None, "l": "x"}})[0]["words"] == {"l": "x"}


def test_messages_escape_unprintable_characters() -> None:
    """They are printed to terminals."""
    assert wrong(colour="\u202ex")[0].startswith('colour: Unsupported value: "\\u202ex"')


def test_preserves_unknown_fields() -> None:
    """x-kubernetes-preserve-unknown-fields: everything below is kept, nulls too."""
    assert shaped({"name": "a", "free": {"deep": {"er": None}}})[0]["free"] == {"deep": {"er": None}}


def test_reads_a_whole_float_as_an_integer() -> None:
    """JSON has one number type."""
    count = shaped({"name": "a", "count": 3.0})[0]["count"]
    assert (count, type(count)) == (3, int)


def test_does_not_modify_its_argument() -> None:
    """Defaults are set in a copy."""
    value: dict[str, Any] = {"name": "a", "sleep": {}}
    shaped(value)
    assert value == {"name": "a", "sleep": {}}


def test_shares_unchanged_values_with_the_previous_object() -> None:
    """An equal value is returned as the previous one itself."""
    old, _ = shaped({"name": "a", "parts": [{"name": "x"}, {"name": "y"}]})
    new, _ = shaped({"name": "b", "parts": [{"name": "y"}, {"name": "z"}]}, old)
    assert (new["sleep"] is old["sleep"], new["parts"][0] is old["parts"][1]) == (True, True)


def test_replacing_1_by_true_is_a_change() -> None:
    """They are equal in Python, and not in JSON."""
    old, _ = shaped({"name": "a", "parts": [{"name": "x", "size": 1}]})
    new, _ = shaped({"name": "a", "parts": [{"name": "x", "size": True}]}, old)
    assert [cause.field for cause in check(NODE, new, old)] == ["parts[0].size"]


@pytest.mark.parametrize(
    ("fields", "message"),
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
            id="a boolean is not a number",
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
def test_violations_have_the_messages_of_kubernetes(fields: dict[str, Any], message: str) -> None:
    """One violation, one message."""
    assert wrong(**fields) == [message]


def test_requires_what_is_required() -> None:
    """The name is missing."""
    value, _ = shaped({})
    assert [(cause.field, cause.message) for cause in check(NODE, value)] == [("name", "Required value")]


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 8, "ratio": 0.5, "on": False, "amount": 7},
        {"amount": "12", "since": "2026-11-01T00:00:00.123456Z"},
        {"since": "2026-11-01T00:00:00+02:00", "words": {"k": ""}},
        {"numbers": [1, 2], "tags": ["a", "b"], "maybe": None},
    ],
)
def test_accepts_valid_values(fields: dict[str, Any]) -> None:
    """Bounds include their ends."""
    assert wrong(**fields) == []


def test_does_not_validate_unchanged_values() -> None:
    """An object that a later schema would refuse can still be changed elsewhere (ratcheting)."""
    old = FILLED | {"name": "toolong"}
    new, _ = shaped(old | {"count": 2}, old)
    assert check(NODE, new, old) == []


def test_validates_only_the_changed_items_of_a_map_list() -> None:
    """Items are correlated by their keys, not their index."""
    old = FILLED | {"parts": [{"name": "x", "size": 50}]}
    new, _ = shaped(FILLED | {"parts": [{"name": "y", "size": 60}, {"name": "x", "size": 50}]}, old)
    assert [cause.field for cause in check(NODE, new, old)] == ["parts[0].size"]


@pytest.mark.parametrize(
    ("schema", "value", "message"),
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
def test_validates_junctors(schema: dict[str, Any], value: Any, message: str) -> None:
    """allOf, anyOf, oneOf and not are checked on the value."""
    node = compile_schema({"type": "object", "properties": {"x": schema}})
    assert [message in cause.message for cause in check(node, {"x": value})] == [True]


@pytest.mark.parametrize("schema", [{"$ref": "#/x"}, {"pattern": "("}, {"patternProperties": {}}])
def test_refuses_a_schema_that_is_not_structural(schema: dict[str, Any]) -> None:
    """What is not supported is refused when the definition is installed."""
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
def test_any_value_can_be_pruned_and_validated(value: Any, old: Any) -> None:
    """Pruning and defaulting is idempotent, and no input makes it fail."""
    old = shape(NODE, old)
    first = shape(NODE, value, old)
    check(NODE, first, old)
    assert shape(NODE, first, first) is first
    assert shape(NODE, first) == first


def test_a_null_of_an_apply_stays_unless_a_default_replaces_it() -> None:
    """A real API server drops the nulls of a create, an update and a patch, and rejects those of an apply by their type."""
    value = {"name": "a", "colour": None, "sleep": None, "maybe": None, "words": {"a": None}}
    assert shape(NODE, value) == {
        "name": "a",
        "colour": "red",
        "sleep": {"after": "5m"},
        "maybe": None,
        "words": {},
    }
    applied = shape(NODE, value, walk=Walk(keeps_nulls=True))
    assert applied == {
        "name": "a",
        "colour": "red",
        "sleep": {"after": "5m"},
        "maybe": None,
        "words": {"a": None},
    }


@pytest.mark.parametrize("field_path", [".metadata.name", ".nmae", "name", ".colour.red"])
def test_a_rule_names_a_field_of_its_schema(field_path: str) -> None:
    """As a real API server requires; one that accepts more would let a CRD pass that no cluster takes."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "colour": {"type": "string"},
            "metadata": {"type": "object"},
        },
        "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".name"}],
    }
    compile_schema(schema)
    schema["x-kubernetes-validations"] = [{"rule": "true", "fieldPath": field_path}]
    with pytest.raises(SchemaError, match="must be a valid path"):
        compile_schema(schema)
