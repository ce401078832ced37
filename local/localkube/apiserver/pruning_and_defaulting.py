"""Pruning of unknown fields, dropping of nulls and defaulting, in one walk over an object.

Like apiextensions-apiserver/pkg/apiserver/schema/{pruning,defaulting}. A value that equals the previous one
is returned as that very object, so later walks (validation, CEL, comparison) skip it by identity.
"""

import copy
from typing import Any, Final

from localkube.apiserver.resources import Object
from localkube.apiserver.structural_schema import MISSING, SchemaNode

_AS_THEY_ARE: Final = frozenset({str, int, bool})
"""The types of values that no schema alters; most values are of them."""


class Walk:
    """One walk over an object: the paths of its `unknown` fields, and whether a null stays that no default replaces (of an apply)."""

    def __init__(self, *, keeps_nulls: bool = False) -> None:
        self.unknown: list[str] = []
        self.keeps_nulls = keeps_nulls


def shape(node: SchemaNode, value: Any, old: Any = MISSING, path: str = "", walk: Walk | None = None) -> Any:
    """Return value pruned and defaulted by its schema, as a copy."""
    if value is old:
        return old
    if isinstance(value, dict | list):
        if _unchanged(value, old):
            return old
        if node.opaque:
            return value
        walk = Walk() if walk is None else walk
        if isinstance(value, dict):
            result = _shape_object(node, value, old, path, walk)
        else:
            result = _shape_list(node, value, old, path, walk)
        return old if _unchanged(result, old) else result
    if isinstance(value, float) and node.types == ("integer",) and value.is_integer():
        return int(value)
    return value


def _unchanged(value: Any, old: Any) -> bool:
    return bool(value == old) and _same_types(value, old)


def _same_types(value: Any, old: Any) -> bool:
    """Return whether equal values are the same JSON: in Python, True equals 1."""
    if value is old:
        return True
    if isinstance(value, dict):
        return all(_same_types(item, old[name]) for name, item in value.items())
    if isinstance(value, list):
        return all(map(_same_types, value, old))
    return isinstance(value, bool) == isinstance(old, bool)


def _shape_object(node: SchemaNode, value: Object, old: Any, path: str, walk: Walk) -> Any:
    previous = old if isinstance(old, dict) else {}
    result: Object = {}
    for name, item in value.items():
        child = node.child(name)
        if child is None:
            if node.preserve:
                result[name] = item
            else:
                walk.unknown.append(_below(path, name))
        elif type(item) in _AS_THEY_ARE:
            result[name] = item
        elif item is not None or child.nullable or (walk.keeps_nulls and child.default is MISSING):
            result[name] = shape(child, item, previous.get(name, MISSING), _below(path, name), walk)
    for name, default in node.defaults:
        if name not in result:
            default_copy = copy.deepcopy(default) if isinstance(default, dict | list) else default
            child = node.properties[name]
            result[name] = shape(child, default_copy, previous.get(name, MISSING), f"{path}.{name}", walk)
    return result


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shape_list(node: SchemaNode, value: list[Any], old: Any, path: str, walk: Walk) -> Any:
    items = node.items
    if items is None:
        return value
    previous = correlate(node, old)
    result = []
    for index, item in enumerate(value):
        match = previous.get(identity(node, item), MISSING) if previous else MISSING
        result.append(shape(items, item, match, f"{path}[{index}]", walk))
    return result


def correlate(node: SchemaNode, old: Any) -> dict[Any, Any]:
    """Return the previous items of a `map` list by their keys.

    The items of other lists are not correlated.
    """
    if node.merging != "map" or not isinstance(old, list):
        return {}
    return {identity(node, item): item for item in old}


def identity(node: SchemaNode, item: Any) -> Any:
    """Return the values of the list-map-keys of an item, MISSING when it is not an object."""
    if not isinstance(item, dict):
        return MISSING
    names = [item.get(key, _default(node, key)) for key in node.keys]
    return tuple(str(name) if isinstance(name, dict | list) else name for name in names)


def _default(node: SchemaNode, key: str) -> Any:
    child = node.items.properties.get(key) if node.items else None
    return None if child is None or child.default is MISSING else child.default
