"""CEL rules: evaluated on changes; unsupported functions are refused at compilation."""

from typing import Any

import pytest

from localkube.apiserver.cel_rules import RuleError, Violation, compile_rules
from localkube.apiserver.schema_validation import check
from localkube.apiserver.structural_schema import MISSING, SchemaNode, compile_schema


def schema(*rules: dict[str, Any], **properties: Any) -> SchemaNode:
    """Return an object's schema with rules."""
    properties = properties or {"a": {"type": "integer"}, "b": {"type": "string"}}
    return compile_schema(
        {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}
    )


def errors(node: SchemaNode, value: Any, old: Any = MISSING) -> list[str]:
    """Return the errors of a value."""
    return [f"{cause.field}: {cause.message}" for cause in check(node, value, old, "spec")]


def test_a_violation_has_the_message_of_the_rule() -> None:
    """The value of an object is not repeated."""
    part = schema({"rule": "self.a < 3", "message": "must be small"})
    assert errors(part, {"a": 5}) == ["spec: Invalid value: must be small"]


def test_a_valid_value_has_no_errors() -> None:
    """The rule holds."""
    assert errors(schema({"rule": "self.a < 3", "message": "must be small"}), {"a": 1}) == []


def test_a_rule_without_a_message_is_quoted() -> None:
    """As in Kubernetes."""
    assert errors(schema({"rule": "self.a < 3"}), {"a": 5}) == [
        "spec: Invalid value: failed rule: self.a < 3"
    ]


def test_a_message_can_be_computed() -> None:
    """MessageExpression takes precedence over message."""
    rule = {"rule": "self.a < 3", "messageExpression": "'got ' + string(self.a)", "message": "no"}
    assert errors(schema(rule), {"a": 5}) == ["spec: Invalid value: got 5"]


def test_a_rule_sets_the_field_and_the_reason() -> None:
    """By its fieldPath and reason."""
    rule = {"rule": "self.a < 3", "message": "leave it", "fieldPath": ".a", "reason": "FieldValueForbidden"}
    assert errors(schema(rule), {"a": 5}) == ["spec.a: Forbidden: leave it"]


def test_a_violation_of_a_string_shows_the_string() -> None:
    """As scalars are shown in Kubernetes."""
    part = schema(
        b={"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'", "message": "not x"}]}
    )
    assert errors(part, {"b": "x"}) == ['spec.b: Invalid value: "x": not x']


def test_rules_reach_items_and_values() -> None:
    """Rules on the items of a list and the values of a map."""
    small = {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 3", "message": "small"}]}
    part = schema(
        list={"type": "array", "items": small}, map={"type": "object", "additionalProperties": small}
    )
    assert errors(part, {"list": [1, 5], "map": {"k": 7}}) == [
        "spec.list[1]: Invalid value: 5: small",
        "spec.map[k]: Invalid value: 7: small",
    ]


def test_a_transition_rule_compares_with_the_old_value() -> None:
    """OldSelf is the value before the update; on creation the rule is not evaluated."""
    part = schema({"rule": "self.b == oldSelf.b", "message": "b is fixed"})
    assert [
        errors(part, {"b": "y"}),
        errors(part, {"b": "y"}, {"b": "x"}),
        errors(part, {"b": "y"}, {"b": "y"}),
    ] == [
        [],
        ["spec: Invalid value: b is fixed"],
        [],
    ]


def test_a_rule_is_not_evaluated_for_unchanged_fields() -> None:
    """Ratcheting: an invalid old value is kept until a field that the rule reads changes."""
    part = schema({"rule": "self.a < 3", "message": "small"})
    assert errors(part, {"a": 5, "b": "new"}, {"a": 5, "b": "old"}) == []


def test_rules_are_not_evaluated_on_wrong_types() -> None:
    """The last error says so, in the words of Kubernetes."""
    part = schema({"rule": "self.a < 3", "message": "small"})
    assert [line.split(": ")[0] for line in errors(part, {"a": "x"})] == ["spec.a", "<nil>"]


def test_a_rule_is_also_evaluated_for_a_value_that_violates_a_pattern() -> None:
    """`1 day` is refused by the pattern, and a second time by duration(), as on a real server."""
    text = {
        "type": "string",
        "pattern": "^[0-9]+s$",
        "x-kubernetes-validations": [{"rule": "duration(self) <= duration('1h')", "message": "at most 1h"}],
    }
    part = schema(b=text)
    assert [len(errors(part, {"b": each})) for each in ("5s", "1 day", "9000s")] == [0, 2, 1]


def test_a_rule_whose_evaluation_fails_is_violated() -> None:
    """An error never accepts a value."""
    part = schema({"rule": "self.a < 3", "message": "small"})
    assert "evaluating rule: small" in errors(part, {"b": "x"})[0]


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("5m", True),
        ("1h30m", True),
        ("500ms", True),
        ("24h", True),
        ("24h1s", False),
        ("99999999999999h", False),
    ],
)
def test_durations_compare(value: str, valid: bool) -> None:  # noqa: FBT001
    """duration() parses the durations of Go; one that overflows is refused."""
    (rule,) = compile_rules([{"rule": "duration(self) <= duration('24h')", "message": "long"}], "x")
    assert (rule.evaluate(value) is None) is valid


def test_results_are_cached_by_value() -> None:
    """The second evaluation of 1 gives the same result, and 2 its own."""
    (rule,) = compile_rules([{"rule": "self == 1", "message": "one"}], "x")
    assert [rule.evaluate(1), rule.evaluate(1), rule.evaluate(2)] == [None, None, Violation("one")]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param({"rule": ""}, id="empty"),
        pytest.param({"rule": "self.a <"}, id="syntax"),
        pytest.param({"rule": "quantity(self).isGreaterThan(quantity('1'))"}, id="quantity"),
        pytest.param({"rule": "isURL(self)"}, id="url"),
        pytest.param({"rule": "true", "optionalOldSelf": True}, id="optional"),
        pytest.param({"rule": "true", "reason": "Other"}, id="reason"),
        pytest.param({"rule": "true", "messageExpression": "("}, id="message"),
    ],
)
def test_refuses_an_unsupported_or_malformed_rule(rule: dict[str, Any]) -> None:
    """At compilation, that is when the definition is installed."""
    with pytest.raises(RuleError):
        compile_rules([rule], "x")


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("self.a < 3 && has(self.b.c)", {"a", "b"}),
        ("self.metadata.name != 'self'", {"metadata"}),
        ("self.all(k, k != 'x')", None),
        ("size(self) > 2", None),
    ],
)
def test_finds_the_fields_that_a_rule_reads(text: str, reads: set[str] | None) -> None:
    """None for a rule that uses self as a whole."""
    (rule,) = compile_rules([{"rule": text}], "x")
    assert rule.reads == reads


def test_a_rule_over_a_map_is_evaluated_when_the_map_changes() -> None:
    """`self.all(...)` names no field of self."""
    rule = {"rule": "self.all(k, k != 'x')", "message": "no x"}
    part = schema(
        m={"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-validations": [rule]}
    )
    assert errors(part, {"m": {"x": ""}}, {"m": {"y": ""}}) == ["spec.m: Invalid value: no x"]
