"""Checking: whether a shaped object is one that its schema allows, in the words of a real API server.

What did not change is not judged again, as Kubernetes has it since 1.33, so a stricter schema locks nobody out of an old object.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from localkube.apiserver.cel_rules import Rule
from localkube.apiserver.errors import Cause
from localkube.apiserver.formats import matches_format
from localkube.apiserver.pruning_and_defaulting import correlate, identity
from localkube.apiserver.resources import Object
from localkube.apiserver.structural_schema import MISSING, Limits, Part, kind_of, whole_range

INVALID, REQUIRED, UNSUPPORTED = "FieldValueInvalid", "FieldValueRequired", "FieldValueNotSupported"
TYPE_INVALID, TOO_LONG, TOO_MANY = "FieldValueTypeInvalid", "FieldValueTooLong", "FieldValueTooMany"
DUPLICATE: Final = "FieldValueDuplicate"
BLOCKING: Final = frozenset({REQUIRED, UNSUPPORTED, TYPE_INVALID, TOO_LONG, TOO_MANY})
_NOT_ASKED: Final = Cause(
    INVALID,
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    "<nil>",
)
_PREFIXES: Final = {
    "FieldValueRequired": "Required value: ",
    "FieldValueForbidden": "Forbidden: ",
}


def check(part: Part, value: Any, old: Any = MISSING, path: str = "") -> list[Cause]:
    """Return what is wrong with a value: its types and bounds first, then its rules."""
    causes: list[Cause] = []
    _check_structure(part, value, old, path, causes)
    if any(cause.reason in BLOCKING for cause in causes):
        return [*causes, _NOT_ASKED] if part.ruled else causes
    _Asked(causes).ask(part, value, old, path)
    return causes


def _check_structure(part: Part, value: Any, old: Any, path: str, causes: list[Cause]) -> None:
    if value is old:
        return
    if value is None and part.nullable:
        return
    if part.types and not _fits(part, value):
        causes.append(_wrong_type(part, value, path))
        return
    if part.enum and not any(value == one and type(value) is type(one) for one in part.enum):
        choices = ", ".join(_quoted(one) for one in part.enum)
        message = f"Unsupported value: {_quoted(value)}: supported values: {choices}"
        causes.append(Cause(UNSUPPORTED, message, path))
    if part.limits or part.pattern or part.format:
        causes.extend(_bounds(part, value, path))
    if part.all_of or part.any_of or part.one_of or part.negated:
        causes.extend(_junctors(part, value, path))
    if isinstance(value, dict):
        _check_object(part, value, old, path, causes)
    elif isinstance(value, list) and part.items is not None:
        _check_list(part, value, old, path, causes)


def _fits(part: Part, value: Any) -> bool:
    kind = kind_of(value)
    if kind == "integer":
        least, most = whole_range(part)
        return "number" in part.types or ("integer" in part.types and least <= value <= most)
    return kind in part.types


def _wrong_type(part: Part, value: Any, path: str) -> Cause:
    kind = kind_of(value)
    wanted = ",".join(part.types)
    return Cause(
        TYPE_INVALID,
        f'Invalid value: "{kind}": {path or "body"} in body must be of type {wanted}: "{kind}"',
        path,
    )


def _check_object(part: Part, value: Object, old: Any, path: str, causes: list[Cause]) -> None:
    causes.extend(
        Cause(REQUIRED, "Required value", _join(path, name)) for name in part.required if name not in value
    )
    former = old if isinstance(old, dict) else {}
    for name, one in value.items():
        below = part.child(name)
        was = former.get(name, MISSING)
        if below is not None and one is not was:
            _check_structure(below, one, was, _join(path, name), causes)


def _check_list(part: Part, value: list[Any], old: Any, path: str, causes: list[Cause]) -> None:
    items = part.items
    if items is None:
        return
    former = correlate(part, old)
    seen: set[Any] = set()
    for index, one in enumerate(value):
        where = f"{path}[{index}]"
        mark = _mark(part, one)
        if mark is not None and mark in seen:
            shown = {key: one.get(key) for key in part.keys} if part.merging == "map" else one
            causes.append(Cause(DUPLICATE, f"Duplicate value: {_quoted(shown)}", where))
        seen.add(mark)
        _check_structure(items, one, former.get(identity(part, one), MISSING), where, causes)


def _mark(part: Part, item: Any) -> Any:
    """Return what no other item of the list may have, None where items may be alike."""
    if part.merging == "map" and isinstance(item, dict):
        return identity(part, item)
    return json.dumps(item, sort_keys=True) if part.merging == "set" else None


def _bounds(part: Part, value: Any, path: str) -> Iterable[Cause]:
    limits = part.limits or Limits()
    if isinstance(value, str):
        yield from _text_bounds(part, limits, value, path)
    elif isinstance(value, list):
        yield from _size_bounds(len(value), (limits.min_items, limits.max_items), "items", path)
    elif isinstance(value, dict):
        sizes = (limits.min_properties, limits.max_properties)
        yield from _size_bounds(len(value), sizes, "properties", path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_bounds(limits, value, path)


def _text_bounds(part: Part, limits: Limits, value: str, path: str) -> Iterable[Cause]:
    if limits.max_length is not None and len(value) > limits.max_length:
        unit = "byte" if limits.max_length == 1 else "bytes"
        yield Cause(TOO_LONG, f"Too long: may not be more than {limits.max_length} {unit}", path)
        return
    said = f"Invalid value: {_quoted(value)}: {path} in body"
    if limits.min_length is not None and len(value) < limits.min_length:
        yield Cause(INVALID, f"{said} should be at least {limits.min_length} chars long", path)
        return
    if part.pattern is not None and not part.pattern.search(value):
        yield Cause(INVALID, f"{said} should match '{part.pattern_text}'", path)
    if part.format and not matches_format(part.format, value):
        yield Cause(INVALID, f"{said} must be of type {part.format}: {_quoted(value)}", path)


def _size_bounds(size: int, bounds: tuple[int | None, int | None], unit: str, path: str) -> Iterable[Cause]:
    least, most = bounds
    if most is not None and size > most:
        word = "item" if most == 1 else "items"
        yield Cause(TOO_MANY, f"Too many: {size}: must have at most {most} {word}", path)
    if least is not None and size < least:
        yield Cause(
            INVALID, f"Invalid value: {size}: {path} in body should have at least {least} {unit}", path
        )


def _number_bounds(limits: Limits, value: float, path: str) -> Iterable[Cause]:
    said = f"Invalid value: {value}: {path} in body should be"
    least, most = limits.minimum, limits.maximum
    if most is not None and (value > most or (limits.exclusive_maximum and value == most)):
        yield Cause(
            INVALID, f"{said} less than {'' if limits.exclusive_maximum else 'or equal to '}{most}", path
        )
    if least is not None and (value < least or (limits.exclusive_minimum and value == least)):
        word = "" if limits.exclusive_minimum else "or equal to "
        yield Cause(INVALID, f"{said} greater than {word}{least}", path)
    if limits.multiple_of and value % limits.multiple_of:
        yield Cause(INVALID, f"{said} a multiple of {limits.multiple_of}", path)


def _junctors(part: Part, value: Any, path: str) -> Iterable[Cause]:
    for one in part.all_of:
        yield from check(one, value, path=path)
    said = f"Invalid value: {_quoted(value)}: {path} in body must validate"
    if part.any_of and all(check(one, value, path=path) for one in part.any_of):
        yield Cause(INVALID, f"{said} at least one schema (anyOf)", path)
    if part.one_of and sum(not check(one, value, path=path) for one in part.one_of) != 1:
        yield Cause(INVALID, f"{said} one and only one schema (oneOf)", path)
    if part.negated is not None and not check(part.negated, value, path=path):
        yield Cause(
            INVALID,
            f"Invalid value: {_quoted(value)}: {path} in body must not validate the schema (not)",
            path,
        )


class _Asked:
    """One walk that asks the rules of every changed part, also of one that has another fault."""

    def __init__(self, causes: list[Cause]) -> None:
        self._causes = causes

    def ask(self, part: Part, value: Any, old: Any, path: str) -> None:
        """Ask here, then below."""
        if not part.ruled or (value is old and not part.transitions):
            return
        for rule in part.rules:
            self._causes.extend(ask_rule(rule, value, old, path))
        if isinstance(value, dict):
            former = old if isinstance(old, dict) else {}
            for name, one in value.items():
                below = part.child(name)
                if below is not None:
                    self.ask(below, one, former.get(name, MISSING), _join(path, name))
        elif isinstance(value, list) and part.items is not None:
            matches = correlate(part, old)
            for index, one in enumerate(value):
                was = matches.get(identity(part, one), MISSING)
                self.ask(part.items, one, was, f"{path}[{index}]")


def ask_rule(rule: Rule, value: Any, old: Any, path: str) -> Iterable[Cause]:
    """Yield what a rule has against a value, unless all that it looks at is as it was."""
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
    shown = "" if isinstance(value, dict | list) else f"{_quoted(value)}: "
    prefix = _PREFIXES.get(rule.reason, f"Invalid value: {shown}")
    yield Cause(
        rule.reason, f"{prefix}{refusal.message}", f"{path}{rule.field_path}" if path else rule.field_path[1:]
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _quoted(value: Any) -> str:
    """Return a value as JSON, fit for a terminal: what cannot be printed is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
