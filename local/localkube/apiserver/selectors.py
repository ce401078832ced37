"""Label and field selectors, parsed into predicates.

Like apimachinery/pkg/{labels,fields}; a malformed selector is a 400 with their messages.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from localkube.apiserver.errors import bad_request
from localkube.apiserver.requests import Query
from localkube.apiserver.resource_strategy import builtin
from localkube.apiserver.resources import Object, Resource

Predicate = Callable[[Object], bool]

_TOKEN: Final = re.compile(r"\s*(==|!=|=|!|,|\(|\)|<|>|[A-Za-z0-9_./-]+)")
_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_ALWAYS: Final = frozenset({"metadata.name", "metadata.namespace"})


def everything(_: Object) -> bool:
    """Select every object."""
    return True


def predicate(res: Resource, query: Query, selectable: tuple[str, ...] = ()) -> Predicate:
    """Return a predicate of the objects that match the selectors of a query.

    `selectable` are the fields that the resource supports besides metadata.name and metadata.namespace.
    Raises ApiError 400 when a selector is malformed or names another field.
    """
    if not query.label_selector and not query.field_selector:
        return everything
    labels = label_predicate(query.label_selector)
    requirements = _field_requirements(query.field_selector)
    field_paths = _ALWAYS.union(path.lstrip(".") for path in selectable)
    for path, _, _ in requirements:
        if path not in field_paths:
            raise bad_request(_unsupported_field(res, path, selectable))

    def selects(obj: Object) -> bool:
        return labels(obj["metadata"].get("labels") or {}) and all(
            (_field(obj, path) == value) is equal for path, value, equal in requirements
        )

    return selects


def _unsupported_field(res: Resource, path: str, selectable: tuple[str, ...]) -> str:
    """Return the message of a real API server, which differs for kinds with field labels of their own."""
    if _ALWAYS.union(selectable) == _ALWAYS and builtin(res):
        return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return f"field label not supported: {path}"


def _field(obj: Object, path: str) -> str:
    value: Any = obj
    if path == "source" and obj.get("kind") == "Event":
        path = "source.component" if obj.get("source", {}).get("component") else "reportingComponent"
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "false" if path == "spec.unschedulable" else ""
    return str(value)


@lru_cache(maxsize=256)
def _field_requirements(selector: str) -> tuple[tuple[str, str, bool], ...]:
    """Return the (path, value, whether equal) of each requirement."""
    requirements = []
    for term in filter(None, re.split(r"(?<!\\),", selector)):
        parts = re.match(r"(.*?)(?<!\\)(!=|==|=)(.*)", term)
        if parts is None:
            raise bad_request(f"invalid selector: '{selector}'; can't understand '{term}'")
        value = re.sub(r"\\([\\,=])", r"\1", parts[3])
        requirements.append((parts[1].strip(), value, parts[2] != "!="))
    return tuple(requirements)


@lru_cache(maxsize=256)
def label_predicate(selector: str) -> Callable[[Mapping[str, str]], bool]:
    """Return a predicate of labels for an equality- or set-based selector.

    Raises ApiError 400 when it is malformed.
    """
    requirements = _Parser(selector).requirements() if selector.strip() else []

    def selects(labels: Mapping[str, str]) -> bool:
        return all(requirement(labels) for requirement in requirements)

    return selects


@dataclass(frozen=True, slots=True)
class _Requirement:
    key: str
    operator: str  # in, notin, exists, !, <, >
    values: frozenset[str] = frozenset()

    def __call__(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator in ("exists", "!"):
            return (value is not None) is (self.operator == "exists")
        if self.operator == "notin":
            return value is None or value not in self.values
        if value is None:
            return False
        if self.operator == "in":
            return value in self.values
        (bound,) = self.values
        if not re.fullmatch(r"-?\d+", value):
            return False
        return int(value) > int(bound) if self.operator == ">" else int(value) < int(bound)


class _Parser:
    """A recursive-descent parser of label selectors."""

    def __init__(self, selector: str) -> None:
        self._selector = selector
        self._tokens = self._split(selector)

    def requirements(self) -> list[_Requirement]:
        requirements = [self._requirement()]
        while self._tokens:
            self._expect(",")
            requirements.append(self._requirement())
        return requirements

    def _requirement(self) -> _Requirement:
        if self._peek() == "!":
            self._next()
            return _Requirement(self._key(), "!")
        key = self._key()
        operator = self._peek()
        if operator in ("", ","):
            return _Requirement(key, "exists")
        self._next()
        if operator in ("=", "=="):
            return _Requirement(key, "in", frozenset({self._value()}))
        if operator == "!=":
            return _Requirement(key, "notin", frozenset({self._value()}))
        if operator in ("<", ">"):
            return _Requirement(key, operator, frozenset({self._number()}))
        if operator in ("in", "notin"):
            return _Requirement(key, operator, self._values())
        raise self._parse_error(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def _values(self) -> frozenset[str]:
        self._expect("(")
        values = {self._value()}
        while self._peek() == ",":
            self._next()
            values.add(self._value())
        self._expect(")")
        return frozenset(values)

    def _key(self) -> str:
        key = self._next()
        if not _KEY.fullmatch(key):
            raise self._parse_error(f"found '{key}', expected: identifier")
        return key

    def _value(self) -> str:
        if self._peek() in ("", ",", ")"):
            return ""
        value = self._next()
        if not _VALUE.fullmatch(value):
            raise self._parse_error(f"found '{value}', expected: a label value")
        return value

    def _number(self) -> str:
        value = self._next()
        if not re.fullmatch(r"-?\d+", value):
            raise self._parse_error(f"found '{value}', expected: an integer")
        return value

    def _split(self, selector: str) -> list[str]:
        tokens, position = [], 0
        text = selector.rstrip()
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None:
                raise self._parse_error(f"found '{text[position]}', expected: identifier")
            tokens.append(token[1])
            position = token.end()
        return tokens

    def _peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _next(self) -> str:
        return self._tokens.pop(0) if self._tokens else ""

    def _expect(self, token: str) -> None:
        actual = self._next()
        if actual != token:
            raise self._parse_error(f"found '{actual}', expected: '{token}'")

    def _parse_error(self, message: str) -> Exception:
        return bad_request(f"unable to parse requirement: {message}")
