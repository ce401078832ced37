"""Shaping: what becomes of an object before it is judged. Unknown fields go, nulls go, defaults come.

What equals its former self comes back as that very object, so that checking, rules and memory cost nothing for it.
"""

import copy
from typing import Any

from localkube.apiserver.resources import Object
from localkube.apiserver.structural_schema import MISSING, Part


def shape(
    part: Part, value: Any, old: Any = MISSING, path: str = "", unknown: list[str] | None = None
) -> Any:
    """Return value as the schema has it, without changing what was given; unknown fields are noted by path."""
    if value is old:
        return old
    if isinstance(value, dict | list):
        if _unchanged(value, old):
            return old
        if part.opaque:
            return value
        noted = [] if unknown is None else unknown
        if isinstance(value, dict):
            shaped = _shape_object(part, value, old, path, noted)
        else:
            shaped = _shape_list(part, value, old, path, noted)
        return old if _unchanged(shaped, old) else shaped
    if isinstance(value, float) and part.types == ("integer",) and value.is_integer():
        return int(value)
    return value


def _unchanged(value: Any, old: Any) -> bool:
    return bool(value == old) and _same_types(value, old)


def _same_types(value: Any, old: Any) -> bool:
    """Tell whether equal values are the same JSON: to Python, true equals 1."""
    if value is old:
        return True
    if isinstance(value, dict):
        return all(_same_types(one, old[name]) for name, one in value.items())
    if isinstance(value, list):
        return all(map(_same_types, value, old))
    return isinstance(value, bool) == isinstance(old, bool)


def _shape_object(part: Part, value: Object, old: Any, path: str, unknown: list[str]) -> Any:
    former = old if isinstance(old, dict) else {}
    shaped: Object = {}
    for name, one in value.items():
        below = part.child(name)
        where = f"{path}.{name}" if path else name
        if below is None:
            if part.preserve:
                shaped[name] = one
            else:
                unknown.append(where)
        elif one is not None or below.nullable:  # else a null means the default, or nothing
            shaped[name] = shape(below, one, former.get(name, MISSING), where, unknown)
    for name, default in part.defaults:
        if name not in shaped:
            fresh = copy.deepcopy(default) if isinstance(default, dict | list) else default
            below = part.properties[name]
            shaped[name] = shape(below, fresh, former.get(name, MISSING), f"{path}.{name}", unknown)
    return shaped


def _shape_list(part: Part, value: list[Any], old: Any, path: str, unknown: list[str]) -> Any:
    items = part.items
    if items is None:
        return value
    former = correlate(part, old)
    shaped = []
    for index, one in enumerate(value):
        match = former.get(identity(part, one), MISSING) if former else MISSING
        shaped.append(shape(items, one, match, f"{path}[{index}]", unknown))
    return shaped


def correlate(part: Part, old: Any) -> dict[Any, Any]:
    """Return the items of a former list map by their keys; other lists are one value and tell no items apart."""
    if part.merging != "map" or not isinstance(old, list):
        return {}
    return {identity(part, one): one for one in old}


def identity(part: Part, item: Any) -> Any:
    """Return what tells an item of a list map from the others."""
    if not isinstance(item, dict):
        return MISSING
    names = [item.get(key, _default(part, key)) for key in part.keys]
    return tuple(str(name) if isinstance(name, dict | list) else name for name in names)


def _default(part: Part, key: str) -> Any:
    below = part.items.properties.get(key) if part.items else None
    return None if below is None or below.default is MISSING else below.default
