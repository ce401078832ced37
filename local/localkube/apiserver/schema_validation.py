"""Validation of an object by its structural schema and CEL rules, with the messages of a real API server.

Like apiextensions-apiserver/pkg/apiserver/{validation,schema/cel}. Unchanged values are not validated again
(ratcheting, GA in Kubernetes 1.33), so an object stored under a less strict schema can still be updated.
Objects are pruned and defaulted before, by `pruning_and_defaulting`.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from localkube.apiserver.cel_rules import Rule
from localkube.apiserver.errors import Cause
from localkube.apiserver.formats import matches_format
from localkube.apiserver.pruning_and_defaulting import correlate, identity
from localkube.apiserver.resources import Object
from localkube.apiserver.structural_schema import MISSING, Limits, SchemaNode, kind_of, whole_range

INVALID, REQUIRED, UNSUPPORTED = "FieldValueInvalid", "FieldValueRequired", "FieldValueNotSupported"
TYPE_INVALID, TOO_LONG, TOO_MANY = "FieldValueTypeInvalid", "FieldValueTooLong", "FieldValueTooMany"
DUPLICATE: Final = "FieldValueDuplicate"
BLOCKING: Final = frozenset({REQUIRED, UNSUPPORTED, TYPE_INVALID, TOO_LONG, TOO_MANY})
_RULES_SKIPPED: Final = Cause(
    INVALID,
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    "<nil>",
)
_PREFIXES: Final = {
    "FieldValueRequired": "Required value: ",
    "FieldValueForbidden": "Forbidden: ",
}


def check(node: SchemaNode, value: Any, old: Any = MISSING, path: str = "") -> list[Cause]:
    """Return the violations of the schema and, unless those prevent it, of its CEL rules."""
    causes: list[Cause] = []
    _check_structure(node, value, old, path, causes)
    if any(cause.reason in BLOCKING for cause in causes):
        return [*causes, _RULES_SKIPPED] if node.has_rules else causes
    _RuleWalk(causes).visit(node, value, old, path)
    return causes


def _check_structure(node: SchemaNode, value: Any, old: Any, path: str, causes: list[Cause]) -> None:
    if value is old:
        return
    if value is None and node.nullable:
        return
    if node.types and not _has_type(node, value):
        causes.append(_wrong_type(node, value, path))
        return
    if node.enum and not any(value == item and type(value) is type(item) for item in node.enum):
        choices = ", ".join(_quoted(item) for item in node.enum)
        message = f"Unsupported value: {_quoted(value)}: supported values: {choices}"
        causes.append(Cause(UNSUPPORTED, message, path))
    if node.limits or node.pattern or node.format:
        causes.extend(_check_limits(node, value, path))
    if node.all_of or node.any_of or node.one_of or node.negation:
        causes.extend(_check_junctors(node, value, path))
    if isinstance(value, dict):
        _check_object(node, value, old, path, causes)
    elif isinstance(value, list) and node.items is not None:
        _check_list(node, value, old, path, causes)


def _has_type(node: SchemaNode, value: Any) -> bool:
    kind = kind_of(value)
    if kind == "integer":
        least, most = whole_range(node)
        return "number" in node.types or ("integer" in node.types and least <= value <= most)
    return kind in node.types


def _wrong_type(node: SchemaNode, value: Any, path: str) -> Cause:
    kind = kind_of(value)
    type_names = ",".join(node.types)
    return Cause(
        TYPE_INVALID,
        f'Invalid value: "{kind}": {path or "body"} in body must be of type {type_names}: "{kind}"',
        path,
    )


def _check_object(node: SchemaNode, value: Object, old: Any, path: str, causes: list[Cause]) -> None:
    causes.extend(
        Cause(REQUIRED, "Required value", _join(path, name)) for name in node.required if name not in value
    )
    previous = old if isinstance(old, dict) else {}
    for name, item in value.items():
        child = node.child(name)
        if child is None or (child.any_text and type(item) is str):
            continue
        old_value = previous.get(name, MISSING)
        if item is not old_value:
            _check_structure(child, item, old_value, _join(path, name), causes)


def _check_list(node: SchemaNode, value: list[Any], old: Any, path: str, causes: list[Cause]) -> None:
    items = node.items
    if items is None:
        return
    previous = correlate(node, old)
    values: set[Any] = set()
    for index, item in enumerate(value):
        where = f"{path}[{index}]"
        unique = _uniqueness_key(node, item)
        if unique is not None and unique in values:
            shown_value = {key: item.get(key) for key in node.keys} if node.merging == "map" else item
            causes.append(Cause(DUPLICATE, f"Duplicate value: {_quoted(shown_value)}", where))
        values.add(unique)
        _check_structure(items, item, previous.get(identity(node, item), MISSING), where, causes)


def _uniqueness_key(node: SchemaNode, item: Any) -> Any:
    """Return what must be unique among the items of a `map` or `set` list, None for atomic lists."""
    if node.merging == "map" and isinstance(item, dict):
        return identity(node, item)
    if node.merging != "set":
        return None
    return (item,) if isinstance(item, str) else json.dumps(item, sort_keys=True)


def _check_limits(node: SchemaNode, value: Any, path: str) -> Iterable[Cause]:
    limits = node.limits or Limits()
    if isinstance(value, str):
        yield from _check_string(node, limits, value, path)
    elif isinstance(value, list):
        yield from _check_size(len(value), (limits.min_items, limits.max_items), "items", path)
    elif isinstance(value, dict):
        sizes = (limits.min_properties, limits.max_properties)
        yield from _check_size(len(value), sizes, "properties", path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(limits, value, path)


def _check_string(node: SchemaNode, limits: Limits, value: str, path: str) -> Iterable[Cause]:
    if limits.max_length is not None and len(value) > limits.max_length:
        unit = "byte" if limits.max_length == 1 else "bytes"
        yield Cause(TOO_LONG, f"Too long: may not be more than {limits.max_length} {unit}", path)
        return
    if limits.min_length is not None and len(value) < limits.min_length:
        yield _invalid(value, path, f"should be at least {limits.min_length} chars long")
        return
    if node.pattern is not None and not node.pattern.search(value):
        yield _invalid(value, path, f"should match '{node.pattern_text}'")
    if node.format and not matches_format(node.format, value):
        yield _invalid(value, path, f"must be of type {node.format}: {_quoted(value)}")


def _invalid(value: Any, path: str, problem: str) -> Cause:
    return Cause(INVALID, f"Invalid value: {_quoted(value)}: {path} in body {problem}", path)


def _check_size(size: int, bounds: tuple[int | None, int | None], unit: str, path: str) -> Iterable[Cause]:
    least, most = bounds
    if most is not None and size > most:
        word = "item" if most == 1 else "items"
        yield Cause(TOO_MANY, f"Too many: {size}: must have at most {most} {word}", path)
    if least is not None and size < least:
        yield Cause(
            INVALID, f"Invalid value: {size}: {path} in body should have at least {least} {unit}", path
        )


def _check_number(limits: Limits, value: float, path: str) -> Iterable[Cause]:
    prefix = f"Invalid value: {value}: {path} in body should be"
    least, most = limits.minimum, limits.maximum
    if most is not None and (value > most or (limits.exclusive_maximum and value == most)):
        yield Cause(
            INVALID, f"{prefix} less than {'' if limits.exclusive_maximum else 'or equal to '}{most}", path
        )
    if least is not None and (value < least or (limits.exclusive_minimum and value == least)):
        word = "" if limits.exclusive_minimum else "or equal to "
        yield Cause(INVALID, f"{prefix} greater than {word}{least}", path)
    if limits.multiple_of and value % limits.multiple_of:
        yield Cause(INVALID, f"{prefix} a multiple of {limits.multiple_of}", path)


def _check_junctors(node: SchemaNode, value: Any, path: str) -> Iterable[Cause]:
    for child in node.all_of:
        yield from check(child, value, path=path)
    if node.any_of and all(check(child, value, path=path) for child in node.any_of):
        yield _invalid(value, path, "must validate at least one schema (anyOf)")
    if node.one_of and sum(not check(child, value, path=path) for child in node.one_of) != 1:
        yield _invalid(value, path, "must validate one and only one schema (oneOf)")
    if node.negation is not None and not check(node.negation, value, path=path):
        yield _invalid(value, path, "must not validate the schema (not)")


class _RuleWalk:
    """A walk that evaluates the CEL rules of every changed value, also of one that has other violations."""

    def __init__(self, causes: list[Cause]) -> None:
        self._causes = causes

    def visit(self, node: SchemaNode, value: Any, old: Any, path: str) -> None:
        """Evaluate the rules of this node, then those below."""
        if not node.has_rules or (value is old and not node.has_transition_rules):
            return
        for rule in node.rules:
            self._causes.extend(evaluate_rule(rule, value, old, path))
        if isinstance(value, dict):
            previous = old if isinstance(old, dict) else {}
            for name, item in value.items():
                child = node.child(name)
                if child is not None:
                    # Of a rule the real one names the entry of a map as it names an item of a list; of a schema as it names a field.
                    where = _join(path, name) if name in node.properties else f"{path}[{name}]"
                    self.visit(child, item, previous.get(name, MISSING), where)
        elif isinstance(value, list) and node.items is not None:
            matches = correlate(node, old)
            for index, item in enumerate(value):
                old_item = matches.get(identity(node, item), MISSING)
                self.visit(node.items, item, old_item, f"{path}[{index}]")


def evaluate_rule(rule: Rule, value: Any, old: Any, path: str) -> Iterable[Cause]:
    """Yield the violation of a rule, if any; a rule whose fields are all unchanged is not evaluated."""
    if rule.transition and old is MISSING:
        return
    if rule.reads_nothing_new(value, old):
        return
    refusal = rule.evaluate(value, old)
    if refusal is None:
        return
    if refusal.is_error:
        yield Cause(INVALID, f'Invalid value: "{kind_of(value)}": {refusal.message}', path)
        return
    value_text = "" if isinstance(value, dict | list) else f"{_quoted(value)}: "
    prefix = _PREFIXES.get(rule.reason, f"Invalid value: {value_text}")
    yield Cause(
        rule.reason, f"{prefix}{refusal.message}", f"{path}{rule.field_path}" if path else rule.field_path[1:]
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _quoted(value: Any) -> str:
    """Return a value as JSON with unprintable characters escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
