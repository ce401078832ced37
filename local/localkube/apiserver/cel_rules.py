"""CEL validation rules of a schema (`x-kubernetes-validations`): compiled once, evaluated on changes.

Like apiextensions-apiserver/pkg/apiserver/schema/cel. The engine has the core of CEL (`has`, `all`, `exists`,
`size`, `matches`, `startsWith`, `in`, `duration`, `timestamp`, ...). Rules that use the libraries of
Kubernetes (quantity, url, ip, format, optional values) are refused when a definition is installed, never
ignored. There are no cost limits.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from localkube.apiserver.cel_extension import compile_expression
from localkube.apiserver.resources import Object

_STRINGS: Final = re.compile(r"""r?("(\\.|[^"\\])*"|'(\\.|[^'\\])*')""")
_REFERENCE: Final = re.compile(
    r"\b(self|oldSelf)\b(\.([A-Za-z_]\w*)(?!\w|\s*\())?"
)  # of a method call, self as a whole
_UNSUPPORTED: Final = re.compile(
    r"\b(quantity|isQuantity|url|isURL|ip|isIP|cidr|isCIDR|format|semver|isSemver|optional)\s*\("
)
_CACHE_SIZE: Final = 4096  # results per rule
_SCALARS: Final = (str, int, float, bool, type(None))
_REASONS: Final = frozenset(
    {"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"}
)


_CONVERSION: Final = re.compile(r"Function '(duration|timestamp|int|uint|double|bool)' error")
_CONVERTED: Final = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}


class RuleError(ValueError):
    """A rule cannot be compiled; the message begins with its path in the schema."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a value is invalid: the message of the rule, or the error of its evaluation (`is_error`)."""

    message: str
    is_error: bool = False


@dataclass(slots=True)
class Rule:
    """One compiled rule. `reads` are the fields of self that it reads, None if it may read all of them."""

    text: str
    program: Any
    message: str = ""
    expression: Any = None
    reason: str = "FieldValueInvalid"
    field_path: str = ""
    transition: bool = False
    reads: frozenset[str] | None = None
    _results: dict[Any, Violation | None] = field(default_factory=dict)

    def evaluate(self, value: Any, old: Any = None) -> Violation | None:
        """Return why a value is invalid, None if it is valid; results for small values are cached."""
        key = None if self.transition else _key(value)
        if key is None:
            return self._evaluate(value, old)
        if key not in self._results:
            if len(self._results) >= _CACHE_SIZE:
                self._results.clear()
            self._results[key] = self._evaluate(value, old)
        return self._results[key]

    def reads_nothing_new(self, value: Any, old: Any) -> bool:
        """Return whether all that the rule reads is unchanged, so that it need not hold (ratcheting)."""
        if self.transition or self.reads is None or not isinstance(old, dict):
            return False
        return all(_same(value.get(name), old.get(name)) for name in self.reads)

    def _evaluate(self, value: Any, old: Any) -> Violation | None:
        names = {"self": value, "oldSelf": old} if self.transition else {"self": value}
        try:
            valid = self.program.execute(names)
        except (RuntimeError, LookupError, TypeError, ValueError, OverflowError) as error:
            message = f"{_error_message(error)} evaluating rule: {self.message or self.text}"
            return Violation(message, is_error=True)
        return None if valid is True else Violation(self._message(names))

    def _message(self, names: Object) -> str:
        if self.expression is not None:
            try:
                message = self.expression.execute(names)
            except (RuntimeError, KeyError, TypeError, ValueError):
                message = ""
            if isinstance(message, str) and message.strip():
                return message
        return self.message or f"failed rule: {self.text}"


def compile_rules(rules: Iterable[Object], path: str) -> tuple[Rule, ...]:
    """Return the compiled rules of one part of a schema, which is at `path`. Raises RuleError."""
    return tuple(_compile(rule, f"{path}.x-kubernetes-validations[{i}]") for i, rule in enumerate(rules))


def _compile(rule: Object, path: str) -> Rule:
    text = rule.get("rule", "")
    if not text.strip():
        raise RuleError(f"{path}.rule: Required value")
    if rule.get("optionalOldSelf"):
        raise RuleError(f"{path}.optionalOldSelf: Forbidden: the local API does not offer it")
    reason = rule.get("reason", "FieldValueInvalid")
    if reason not in _REASONS:
        raise RuleError(f'{path}.reason: Unsupported value: "{reason}"')
    code = _STRINGS.sub("''", text)  # without the contents of its string literals
    expression = rule.get("messageExpression")
    return Rule(
        text=text.strip(),
        program=_program(text, f"{path}.rule"),
        message=rule.get("message", "").strip(),
        expression=_program(expression, f"{path}.messageExpression") if expression else None,
        reason=reason,
        field_path=rule.get("fieldPath", ""),
        transition="oldSelf" in code,
        reads=_reads(code),
    )


def _program(text: str, path: str) -> Any:
    match = _UNSUPPORTED.search(_STRINGS.sub("''", text))
    if match:
        raise RuleError(f"{path}: Forbidden: the local API does not offer {match[1]}() in rules")
    try:
        return compile_expression(text)
    except ValueError as error:
        raise RuleError(f"{path}: Invalid value: compilation failed: {error}") from error


def _reads(code: str) -> frozenset[str] | None:
    """Return the fields of self that a rule reads, None if it also uses self as a whole."""
    names = [match[3] for match in _REFERENCE.finditer(code)]
    return None if None in names else frozenset(names)


def _error_message(error: Exception) -> str:
    """Return the message of a real API server (cel-go), where this engine's differs."""
    if isinstance(error, KeyError):
        return f"no such key: {error.args[0]}"
    conversion = _CONVERSION.search(str(error))
    if conversion:
        return f"type conversion error from 'string' to '{_CONVERTED.get(conversion[1], conversion[1])}'"
    return str(error)


def _same(value: Any, old: Any) -> bool:
    return value is old or (type(value) is type(old) and bool(value == old))


def _key(value: Any) -> Any:
    """Return a cache key, None if the value is too large. It has the type, since `1 == True` in Python."""
    if isinstance(value, dict):
        if len(value) > 16 or not all(isinstance(one, _SCALARS) for one in value.values()):  # noqa: PLR2004
            return None
        return frozenset((name, type(one), one) for name, one in value.items())
    return (type(value), value) if isinstance(value, _SCALARS) else None
