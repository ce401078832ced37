"""Sets of fields in their wire format (FieldsV1), like fieldpath.Set; nothing is decoded.

A set is a tree of dicts. A node that is empty, or has the key ".", is itself a member; the other keys are
path elements: `f:name` a field, `k:{...}` a list item by its keys, `v:...` an item of a set, `i:...` an
index. The root is no member: an empty root is the empty set. Union and difference return their first argument
itself if they change nothing.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec

Fields: TypeAlias = dict[str, Any]

_ITSELF: Final[Fields] = {}


def member(node: Fields) -> bool:
    """Return whether the node itself is a member."""
    return not node or "." in node


def as_member(node: Fields) -> Fields:
    """Return the node as a member."""
    return node if not node or "." in node else {".": _ITSELF, **node}


def union(left: Fields, right: Fields) -> Fields:
    """Return the members of either set."""
    if not right:
        return left
    return _union(left, right) if left else right


def _union(left: Fields, right: Fields) -> Fields:
    if left is right or left == right:
        return left
    if not left:
        return as_member(right)
    if not right:
        return as_member(left)
    out = left
    for name, node in right.items():
        current = left.get(name)
        child = node if current is None else _union(current, node)
        if child is not current:
            if out is left:
                out = dict(left)
            out[name] = child
    return out


def difference(left: Fields, right: Fields) -> Fields:
    """Return the members of the first set that are not in the second."""
    if not left or not right:
        return left
    remaining = _remaining_children(left, right)
    return left if _shares_all(remaining, left) else remaining


def _difference(left: Fields, right: Fields) -> Fields | None:
    """Return the node without the members of right; None if none remain."""
    remaining = _remaining_children(left, right)
    if member(left) and not member(right):
        return left if _shares_all(remaining, left) else as_member(remaining)
    if not remaining:
        return None
    return left if not member(left) and _shares_all(remaining, left) else remaining


def _remaining_children(left: Fields, right: Fields) -> Fields:
    remaining = {}
    for name, node in left.items():
        if name == ".":
            continue
        other = right.get(name)
        rest = node if other is None else _difference(node, other)
        if rest is not None:
            remaining[name] = rest
    return remaining


def _shares_all(remaining: Fields, node: Fields) -> bool:
    return len(remaining) == len(node) - ("." in node) and all(
        remaining[name] is node[name] for name in remaining
    )


def intersection(left: Fields, right: Fields) -> Fields:
    """Return the members of both sets."""
    return _shared_children(left, right)


def _intersection(left: Fields, right: Fields) -> Fields | None:
    both = _shared_children(left, right)
    if member(left) and member(right):
        return as_member(both)
    return both or None


def _shared_children(left: Fields, right: Fields) -> Fields:
    both = {}
    for name, node in left.items():
        other = right.get(name) if name != "." else None
        if other is not None:
            shared = _intersection(node, other)
            if shared is not None:
                both[name] = shared
    return both


def paths(fields: Fields) -> Iterator[str]:
    """Yield the members as error messages show them, like `.status.conditions[type="Ready"].reason`."""
    for name in sorted(fields):
        if name != ".":
            path, node = readable(name), fields[name]
            if member(node):
                yield path
            for rest in paths(node):
                yield path + rest


def key_element(keys: dict[str, Any]) -> str:
    """Return the path element of an item of a list of type `map`."""
    return "k:" + msgspec.json.encode(keys, order="deterministic").decode()


def value_element(value: Any) -> str:
    """Return the path element of an item of a list of type `set`."""
    return "v:" + msgspec.json.encode(value, order="deterministic").decode()


def readable(name: str) -> str:
    """Return a path element as error messages show it."""
    kind, _, rest = name.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys = msgspec.json.decode(rest)
        pairs = ",".join(f"{key}={msgspec.json.encode(keys[key]).decode()}" for key in sorted(keys))
        return f"[{pairs}]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"
