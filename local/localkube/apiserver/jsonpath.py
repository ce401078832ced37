"""JSONPath of printer columns and selectable fields: names, indexes, `[*]`, `[?(@.type=="Ready")]`.

The subset of client-go/util/jsonpath that CustomResourceDefinitions use: no recursive descent, unions, slices
or templates.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias

Step: TypeAlias = Callable[[Any], Iterator[Any]]

_TOKEN = re.compile(
    r"""
    (?P<all>\[\*\]|\.\*)
  | \.(?P<name>(?:[^.\[\]\\]|\\.)+)
  | \['(?P<quoted>[^']*)'\]
  | \["(?P<double>[^"]*)"\]
  | \[(?P<index>-?\d+)\]
  | \[\?\(@(?P<path>(?:\.[^.\[\]=!<>\s]+|\['[^']*'\])*)\s*(?:(?P<sign>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*)?\)\]
    """,
    re.VERBOSE,
)


class JsonPathError(ValueError):
    """The path is malformed or outside the supported subset."""


@lru_cache(maxsize=512)
def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """Return a function from an object to the values at the path; missing and null fields give none.

    Raises JsonPathError.
    """
    steps = tuple(_steps(path))

    def find(value: Any) -> list[Any]:
        values = [value]
        for step in steps:
            values = [inner for outer in values for inner in step(outer)]
            if not values:
                break
        return values

    return find


def _steps(path: str) -> Iterator[Step]:
    position = 0
    while position < len(path):
        match = _TOKEN.match(path, position)
        if match is None:
            raise JsonPathError(f"unrecognized column definition {path!r}")
        position = match.end()
        yield _step(match)


def _step(match: re.Match[str]) -> Step:
    part = match.groupdict()
    if part["all"]:
        return _all
    if part["index"] is not None:
        return _index(int(part["index"]))
    if part["path"] is not None:
        return _filter(part["path"], part["sign"], part["value"])
    name = re.sub(r"\\(.)", r"\1", part["name"]) if part["name"] else part["quoted"] or part["double"]
    return _child(name)


def _child(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and value.get(name) is not None:
            yield value[name]

    return step


def _index(number: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= number < len(value):
            yield value[number]

    return step


def _all(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _filter(path: str, sign: str | None, literal: str | None) -> Step:
    find = compile_path(path)
    operand = _literal(literal) if literal is not None else None

    def matches(item: Any) -> bool:
        values = find(item)
        if sign is None:
            return bool(values)
        return bool(values) and (values[0] == operand) is (sign == "==")

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (item for item in value if matches(item))

    return step


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise JsonPathError(f"unrecognized literal {text!r}") from error
