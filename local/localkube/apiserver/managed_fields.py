"""Sets of fields, in the very form in which an object carries them (FieldsV1), so that nothing is ever decoded.

A set is a tree of dicts. A node that is empty, or has the key ".", is itself a member; other keys lead on: `f:name` a field,
`k:{...}` a list item by its keys, `v:...` a member of a list that is a set. The root is no member: there, empty means empty.
Union and difference return their first argument itself where they change nothing.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec

Fields: TypeAlias = dict[str, Any]

_ITSELF: Final[Fields] = {}


def member(node: Fields) -> bool:
    """Say whether the node itself belongs to the set."""
    return not node or "." in node


def as_member(node: Fields) -> Fields:
    """Return the node, made a member."""
    return node if not node or "." in node else {".": _ITSELF, **node}


def union(left: Fields, right: Fields) -> Fields:
    """Return what is in either set."""
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
        known = left.get(name)
        merged = node if known is None else _union(known, node)
        if merged is not known:
            if out is left:
                out = dict(left)
            out[name] = merged
    return out


def difference(left: Fields, right: Fields) -> Fields:
    """Return what is in the first set and not in the second."""
    if not left or not right:
        return left
    kept = _children_left(left, right)
    return left if _shares_all(kept, left) else kept


def _difference(left: Fields, right: Fields) -> Fields | None:
    """Return the node without what right has; None when nothing is left."""
    kept = _children_left(left, right)
    if member(left) and not member(right):
        return left if _shares_all(kept, left) else as_member(kept)
    if not kept:
        return None
    return left if not member(left) and _shares_all(kept, left) else kept


def _children_left(left: Fields, right: Fields) -> Fields:
    kept = {}
    for name, node in left.items():
        if name == ".":
            continue
        other = right.get(name)
        rest = node if other is None else _difference(node, other)
        if rest is not None:
            kept[name] = rest
    return kept


def _shares_all(kept: Fields, node: Fields) -> bool:
    return len(kept) == len(node) - ("." in node) and all(kept[name] is node[name] for name in kept)


def intersection(left: Fields, right: Fields) -> Fields:
    """Return what is in both sets."""
    return _children_shared(left, right)


def _intersection(left: Fields, right: Fields) -> Fields | None:
    both = _children_shared(left, right)
    if member(left) and member(right):
        return as_member(both)
    return both or None


def _children_shared(left: Fields, right: Fields) -> Fields:
    both = {}
    for name, node in left.items():
        other = right.get(name) if name != "." else None
        if other is not None:
            shared = _intersection(node, other)
            if shared is not None:
                both[name] = shared
    return both


def paths(fields: Fields) -> Iterator[str]:
    """Yield the members as people read them: `.spec.replicas`, `.status.conditions[type="Ready"].reason`."""
    for name in sorted(fields):
        if name != ".":
            here, node = readable(name), fields[name]
            if member(node):
                yield here
            for below in paths(node):
                yield here + below


def key_element(keys: dict[str, Any]) -> str:
    """Return the name of a list item that is known by its keys."""
    return "k:" + msgspec.json.encode(keys, order="deterministic").decode()


def value_element(value: Any) -> str:
    """Return the name of a member of a list that is a set."""
    return "v:" + msgspec.json.encode(value, order="deterministic").decode()


def readable(name: str) -> str:
    """Return one element of a path as people read it."""
    kind, _, rest = name.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys = msgspec.json.decode(rest)
        words = ",".join(f"{key}={msgspec.json.encode(keys[key]).decode()}" for key in sorted(keys))
        return f"[{words}]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"
