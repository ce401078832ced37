"""CEL rules: asked when what they look at changed, and only then; what the engine lacks is refused at once."""

from typing import Any

import pytest

from localkube.apiserver.cel_rules import Refusal, RuleError, compile_rules
from localkube.apiserver.schema_validation import check
from localkube.apiserver.structural_schema import MISSING, SchemaNode, compile_schema


def schema(*rules: dict[str, Any], **properties: Any) -> SchemaNode:
    """Return an object's schema with rules."""
    properties = properties or {"a": {"type": "integer"}, "b": {"type": "string"}}
    return compile_schema(
        {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}
    )


def said(part: SchemaNode, value: Any, old: Any = MISSING) -> list[str]:
    """Return what is said against a value."""
    return [f"{cause.field}: {cause.message}" for cause in check(part, value, old, "spec")]


def test_a_rule_refuses_with_its_message() -> None:
    """An object's own value is not repeated."""
    part = schema({"rule": "self.a < 3", "message": "must be small"})
    assert said(part, {"a": 5}) == ["spec: Invalid value: must be small"]


def test_a_rule_accepts() -> None:
    """Nothing is said."""
    assert said(schema({"rule": "self.a < 3", "message": "must be small"}), {"a": 1}) == []


def test_a_rule_without_a_message_is_quoted() -> None:
    """As in Kubernetes."""
    assert said(schema({"rule": "self.a < 3"}), {"a": 5}) == ["spec: Invalid value: failed rule: self.a < 3"]


def test_a_message_can_be_computed() -> None:
    """A messageExpression goes before a message."""
    rule = {"rule": "self.a < 3", "messageExpression": "'got ' + string(self.a)", "message": "no"}
    assert said(schema(rule), {"a": 5}) == ["spec: Invalid value: got 5"]


def test_a_rule_names_the_field_and_the_reason_that_it_says() -> None:
    """As fieldPath and reason of the rule have it."""
    rule = {"rule": "self.a < 3", "message": "leave it", "fieldPath": ".a", "reason": "FieldValueForbidden"}
    assert said(schema(rule), {"a": 5}) == ["spec.a: Forbidden: leave it"]


def test_a_rule_on_a_text_shows_the_text() -> None:
    """So that a user sees what was refused."""
    part = schema(
        b={"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'", "message": "not x"}]}
    )
    assert said(part, {"b": "x"}) == ['spec.b: Invalid value: "x": not x']


def test_rules_reach_items_and_values() -> None:
    """Lists and maps carry rules below them."""
    small = {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 3", "message": "small"}]}
    part = schema(
        list={"type": "array", "items": small}, map={"type": "object", "additionalProperties": small}
    )
    assert said(part, {"list": [1, 5], "map": {"k": 7}}) == [
        "spec.list[1]: Invalid value: 5: small",
        "spec.map.k: Invalid value: 7: small",
    ]


def test_a_transition_rule_compares_with_what_was() -> None:
    """The former value is oldSelf; on creation the rule is not asked."""
    part = schema({"rule": "self.b == oldSelf.b", "message": "b is fixed"})
    assert [
        said(part, {"b": "y"}),
        said(part, {"b": "y"}, {"b": "x"}),
        said(part, {"b": "y"}, {"b": "y"}),
    ] == [
        [],
        ["spec: Invalid value: b is fixed"],
        [],
    ]


def test_a_rule_is_not_asked_again_about_what_stayed() -> None:
    """An old value that a new rule would refuse stays, as long as the rule looks at nothing that changed."""
    part = schema({"rule": "self.a < 3", "message": "small"})
    assert said(part, {"a": 5, "b": "new"}, {"a": 5, "b": "old"}) == []


def test_rules_wait_until_the_types_are_right() -> None:
    """The last line says so, in Kubernetes' words."""
    part = schema({"rule": "self.a < 3", "message": "small"})
    assert [line.split(": ")[0] for line in said(part, {"a": "x"})] == ["spec.a", "<nil>"]


def test_a_rule_is_asked_also_about_a_value_that_breaks_its_own_pattern() -> None:
    """`1 day` is refused by the pattern, and a second time by duration(), as on a real server."""
    text = {
        "type": "string",
        "pattern": "^[0-9]+s$",
        "x-kubernetes-validations": [{"rule": "duration(self) <= duration('1h')", "message": "at most 1h"}],
    }
    part = schema(b=text)
    assert [len(said(part, {"b": each})) for each in ("5s", "1 day", "9000s")] == [0, 2, 1]


def test_a_rule_that_cannot_be_worked_out_refuses() -> None:
    """An error is never a yes."""
    part = schema({"rule": "self.a < 3", "message": "small"})
    assert "evaluating rule: small" in said(part, {"b": "x"})[0]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("5m", True),
        ("1h30m", True),
        ("500ms", True),
        ("24h", True),
        ("24h1s", False),
        ("99999999999999h", False),
    ],
)
def test_durations_compare(value: str, kept: bool) -> None:  # noqa: FBT001
    """duration() reads what Go reads; what overflows is refused."""
    (rule,) = compile_rules([{"rule": "duration(self) <= duration('24h')", "message": "long"}], "x")
    assert (rule.ask(value) is None) is kept


def test_the_same_question_is_worked_out_once() -> None:
    """A true is not a one, so both are asked."""
    (rule,) = compile_rules([{"rule": "self == 1", "message": "one"}], "x")
    assert [rule.ask(1), rule.ask(1), rule.ask(2)] == [None, None, Refusal("one")]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param({"rule": ""}, id="empty"),
        pytest.param({"rule": "self.a <"}, id="syntax"),
        pytest.param({"rule": "quantity(self).isGreaterThan(quantity('1'))"}, id="quantity"),
        pytest.param({"rule": "isURL(self)"}, id="url"),
        pytest.param({"rule": "true", "optionalOldSelf": True}, id="optional"),
        pytest.param({"rule": "true", "reason": "Whim"}, id="reason"),
        pytest.param({"rule": "true", "messageExpression": "("}, id="message"),
    ],
)
def test_refuses_a_rule_that_it_cannot_ask(rule: dict[str, Any]) -> None:
    """When the definition is installed, and never later."""
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
def test_knows_what_a_rule_looks_at(text: str, reads: set[str] | None) -> None:
    """A rule that takes self whole looks at everything."""
    (rule,) = compile_rules([{"rule": text}], "x")
    assert rule.reads == reads


def test_a_rule_over_a_map_is_asked_when_the_map_changes() -> None:
    """`self.all(...)` names no field of self."""
    rule = {"rule": "self.all(k, k != 'x')", "message": "no x"}
    part = schema(
        m={"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-validations": [rule]}
    )
    assert said(part, {"m": {"x": ""}}, {"m": {"y": ""}}) == ["spec.m: Invalid value: no x"]
