"""JSONPath as printer columns use it: names, indexes, `[*]` and filters such as `[?(@.type=="Ready")]`.

Not the whole language of kubectl: no recursive descent, unions, slices or scripts.
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


class PathError(ValueError):
    """The path is none that columns can use."""


@lru_cache(maxsize=512)
def compiled(path: str) -> Callable[[Any], list[Any]]:
    """Return a function that finds the values of a path in an object; a missing key is no value."""
    steps = tuple(_steps(path))

    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = [inner for outer in found for inner in step(outer)]
            if not found:
                break
        return found

    return find


def _steps(path: str) -> Iterator[Step]:
    position = 0
    while position < len(path):
        match = _TOKEN.match(path, position)
        if match is None:
            raise PathError(f"unrecognized column definition {path!r}")
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
    plain = re.sub(r"\\(.)", r"\1", part["name"]) if part["name"] else part["quoted"] or part["double"]
    return _child(plain)


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
    inner = compiled(path)
    wanted = _literal(literal) if literal is not None else None

    def holds(item: Any) -> bool:
        found = inner(item)
        if sign is None:
            return bool(found)
        return bool(found) and (found[0] == wanted) is (sign == "==")

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (item for item in value if holds(item))

    return step


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise PathError(f"unrecognized literal {text!r}") from error
