"""CEL rules of a schema (`x-kubernetes-validations`): compiled once, asked for every value that changed.

The engine knows CEL's core: `has`, `all`, `exists`, `size`, `matches`, `startsWith`, `in`, `duration`, `timestamp` and their kin. Kubernetes' own
libraries (quantity, url, ip, format, optional values) are refused when a definition is installed, never ignored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from localkube.apiserver.cel_extension import compile_expression
from localkube.apiserver.resources import Object

_STRINGS: Final = re.compile(r"""r?("(\\.|[^"\\])*"|'(\\.|[^'\\])*')""")
_WORD: Final = re.compile(r"\b(self|oldSelf)\b(\.([A-Za-z_]\w*)(?!\w|\s*\())?")  # a call takes self whole
_FOREIGN: Final = re.compile(
    r"\b(quantity|isQuantity|url|isURL|ip|isIP|cidr|isCIDR|format|semver|isSemver|optional)\s*\("
)
_KEPT: Final = 4096
_SCALARS: Final = (str, int, float, bool, type(None))
_REASONS: Final = frozenset(
    {"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"}
)


_CONVERSION: Final = re.compile(r"Function '(duration|timestamp|int|uint|double|bool)' error")
_CONVERTED: Final = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}


class RuleError(ValueError):
    """A rule that cannot be compiled."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule does not hold: in its own words, or because it could not be asked of such a value."""

    words: str
    unanswerable: bool = False


@dataclass(slots=True)
class Rule:
    """One rule. `reads` are the fields of self that it looks at, None when that cannot be told."""

    text: str
    program: Any
    message: str = ""
    expression: Any = None
    reason: str = "FieldValueInvalid"
    field_path: str = ""
    transition: bool = False
    reads: frozenset[str] | None = None
    _answers: dict[Any, Refusal | None] = field(default_factory=dict)

    def ask(self, value: Any, old: Any = None) -> Refusal | None:
        """Return why a value is refused, None when it is not."""
        key = None if self.transition else _key(value)
        if key is None:
            return self._evaluate(value, old)
        if key not in self._answers:
            if len(self._answers) >= _KEPT:
                self._answers.clear()
            self._answers[key] = self._evaluate(value, old)
        return self._answers[key]

    def untouched(self, value: Any, old: Any) -> bool:
        """Tell whether all that the rule looks at is as it was."""
        if self.transition or self.reads is None or not isinstance(old, dict):
            return False
        return all(_same(value.get(name), old.get(name)) for name in self.reads)

    def _evaluate(self, value: Any, old: Any) -> Refusal | None:
        names = {"self": value, "oldSelf": old} if self.transition else {"self": value}
        try:
            kept = self.program.execute(names)
        except (RuntimeError, LookupError, TypeError, ValueError, OverflowError) as error:
            said = f"{_fault(error)} evaluating rule: {self.message or self.text}"
            return Refusal(said, unanswerable=True)
        return None if kept is True else Refusal(self._message(names))

    def _message(self, names: Object) -> str:
        if self.expression is not None:
            try:
                said = self.expression.execute(names)
            except (RuntimeError, KeyError, TypeError, ValueError):
                said = ""
            if isinstance(said, str) and said.strip():
                return said
        return self.message or f"failed rule: {self.text}"


def compile_rules(rules: Iterable[Object], path: str) -> tuple[Rule, ...]:
    """Return the rules of one part of a schema; RuleError names the one that is wrong."""
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
    bare = _STRINGS.sub("''", text)
    expression = rule.get("messageExpression")
    return Rule(
        text=text.strip(),
        program=_program(text, f"{path}.rule"),
        message=rule.get("message", "").strip(),
        expression=_program(expression, f"{path}.messageExpression") if expression else None,
        reason=reason,
        field_path=rule.get("fieldPath", ""),
        transition="oldSelf" in bare,
        reads=_reads(bare),
    )


def _program(text: str, path: str) -> Any:
    foreign = _FOREIGN.search(_STRINGS.sub("''", text))
    if foreign:
        raise RuleError(f"{path}: Forbidden: the local API does not offer {foreign[1]}() in rules")
    try:
        return compile_expression(text)
    except ValueError as error:
        raise RuleError(f"{path}: Invalid value: compilation failed: {error}") from error


def _reads(bare: str) -> frozenset[str] | None:
    """Return the fields of self that a rule names, None when it also uses self whole."""
    names = [match[3] for match in _WORD.finditer(bare)]
    return None if None in names else frozenset(names)


def _fault(error: Exception) -> str:
    """Return what went wrong in the words of a real API server, where they are known."""
    if isinstance(error, KeyError):
        return f"no such key: {error.args[0]}"
    conversion = _CONVERSION.search(str(error))
    if conversion:
        return f"type conversion error from 'string' to '{_CONVERTED.get(conversion[1], conversion[1])}'"
    return str(error)


def _same(value: Any, old: Any) -> bool:
    return value is old or (type(value) is type(old) and bool(value == old))


def _key(value: Any) -> Any:
    """Return what tells a value from others, None when it is too deep to be worth it."""
    if isinstance(value, dict):
        if len(value) > 16 or not all(isinstance(one, _SCALARS) for one in value.values()):  # noqa: PLR2004
            return None
        return frozenset((name, type(one), one) for name, one in value.items())
    return (type(value), value) if isinstance(value, _SCALARS) else None
