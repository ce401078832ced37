"""Three patch types as pure functions: JSON merge patch, JSON patch and strategic merge patch.

Like apiserver/pkg/endpoints/handlers/patch.go and apimachinery/pkg/util/strategicpatch. Each returns a new
value that shares its unchanged parts with the old one. Server-side apply is in `apply`; which fields a patch
may change is decided in `write_pipeline`. Strategic merge knows the merge keys of `merge_schema.LIST_MAP_KEYS`,
not those of every built-in type.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from localkube.apiserver.errors import ApiError, bad_request, unprocessable
from localkube.apiserver.merge_schema import LIST_MAP_KEYS
from localkube.apiserver.resources import Object
from localkube.apiserver.structured_merge import same

_NOT_APPLICABLE: Final = "the server rejected our request due to an error in our request"
_MERGED_SETS: Final = frozenset({"finalizers"})
_PORT_MERGE_KEYS: Final = ("containerPort", "port")


def merge_patch(target: Any, patch: Any) -> Any:
    """Return target after a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        elif isinstance(value, dict):
            out[name] = merge_patch(out.get(name), value)
        else:
            out[name] = value
    return out


def json_patch(target: Any, operations: Any) -> Any:
    """Return target after a JSON patch (RFC 6902).

    Raises ApiError 400 when it is malformed, 422 when a test fails or a path does not exist.
    """
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise bad_request("error decoding patch: a JSON patch is an array of operations")
    for operation in operations:
        target = _apply_operation(target, operation)
    return target


def _apply_operation(target: Any, operation: Object) -> Any:
    name, path = operation.get("op"), _pointer(operation.get("path"))
    if name == "test":
        return _test(target, path, operation.get("value"))
    if name == "remove":
        return _edit(target, path, _Remove())
    if name in ("add", "replace"):
        if "value" not in operation:
            raise _not_applicable()
        return _edit(target, path, (_Add if name == "add" else _Replace)(operation["value"]))
    if name in ("move", "copy"):
        source = _pointer(operation.get("from"))
        value = _value_at(target, source) if name == "move" else _value_or_null(target, source)
        rest = _edit(target, source, _Remove()) if name == "move" else target
        return _edit(rest, path, _Add(value))
    raise _not_applicable()


def _test(target: Any, path: Sequence[str], expected_value: Any) -> Any:
    if not same(_value_or_null(target, path), expected_value):
        raise _not_applicable()
    return target


def _value_or_null(target: Any, path: Sequence[str]) -> Any:
    """Return the value at a path; a missing one equals null, as in Kubernetes."""
    try:
        return _value_at(target, path)
    except ApiError:
        return None


def _pointer(path: Any) -> tuple[str, ...]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise bad_request("error decoding patch: every operation needs a path that starts with /")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])


def _value_at(target: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(target, dict) and part in target:
            target = target[part]
        elif isinstance(target, list):
            target = target[_index(target, part)]
        else:
            raise _not_applicable()
    return target


class _Remove:
    """Remove the value at a path."""

    def of_map(self, obj: Object, name: str) -> None:
        if name not in obj:
            raise _not_applicable()
        del obj[name]

    def of_list(self, items: list[Any], name: str) -> None:
        del items[_index(items, name)]

    def whole(self) -> Any:
        return None


class _Add:
    """Set a value at a path; in a list, insert it before the item at that index."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def of_map(self, obj: Object, name: str) -> None:
        obj[name] = self._value

    def of_list(self, items: list[Any], name: str) -> None:
        index = len(items) if name == "-" else _index([*items, None], name)
        items.insert(index, self._value)

    def whole(self) -> Any:
        return self._value


class _Replace(_Add):
    """Replace the value at a path; a missing field of an object is added, as a real API server does."""

    def of_list(self, items: list[Any], name: str) -> None:
        items[_index(items, name)] = self._value


def _edit(target: Any, path: Sequence[str], edit: _Remove | _Add) -> Any:
    """Return target with the value at a path edited; only the containers on that path are copied."""
    if not path:
        return edit.whole()
    first, rest = path[0], path[1:]
    if isinstance(target, dict):
        obj = dict(target)
        if rest:
            if first not in obj:
                raise _not_applicable()
            obj[first] = _edit(obj[first], rest, edit)
        else:
            edit.of_map(obj, first)
        return obj
    if isinstance(target, list):
        items = list(target)
        if rest:
            index = _index(items, first)
            items[index] = _edit(items[index], rest, edit)
        else:
            edit.of_list(items, first)
        return items
    raise _not_applicable()


def _index(items: Sequence[Any], part: str) -> int:
    if (
        not (part.isascii() and part.isdigit())
        or (part != "0" and part.startswith("0"))
        or int(part) >= len(items)
    ):
        raise _not_applicable()
    return int(part)


def _not_applicable() -> ApiError:
    return unprocessable(_NOT_APPLICABLE)


def strategic_merge(target: Any, patch: Any) -> Any:
    """Return target after a strategic merge patch: a merge patch that merges lists by their merge keys.

    Raises ApiError 400 when the patch is not an object, or an item lacks the merge key of its list.
    """
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch is an object")
    return _merge_object(target if isinstance(target, dict) else {}, patch)


def _merge_object(target: Object, patch: Object) -> Any:
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    out = {name: value for name, value in target.items() if _retained(name, patch)}
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            out.pop(name, None)
        elif isinstance(value, dict):
            old = out.get(name)
            out[name] = _merge_object(old if isinstance(old, dict) else {}, value)
        elif isinstance(value, list):
            out[name] = _merge_list(name, out.get(name), value)
        else:
            out[name] = value
    _apply_list_directives(out, patch)
    return out


def _retained(name: str, patch: Object) -> bool:
    keys = patch.get("$retainKeys")
    return keys is None or name in keys


def _apply_list_directives(out: Object, patch: Object) -> None:
    for directive, value in patch.items():
        kind, _, name = directive.partition("/")
        items = out.get(name)
        if not isinstance(items, list):
            continue
        if kind == "$deleteFromPrimitiveList":
            out[name] = [item for item in items if item not in value]
        elif kind == "$setElementOrder":
            out[name] = _reorder(name, items, value)


def _merge_list(name: str, old: Any, patch: Sequence[Any]) -> list[Any]:
    before = list(old) if isinstance(old, list) else []
    if name in _MERGED_SETS:
        return before + [item for item in patch if item not in before]
    if {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    key = _merge_key(name, patch or before)
    if key is None:
        return list(patch)
    items: dict[Any, Any] = {item.get(key): item for item in before}
    for item in patch:
        value = item.get(key)
        if value is None:
            raise bad_request(f"error when patching: map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            items.pop(value, None)
        else:
            items[value] = _merge_object(items.get(value, {}), item)
    return list(items.values())


def _reorder(name: str, items: Sequence[Any], order: Sequence[Any]) -> list[Any]:
    key = _merge_key(name, order)
    ranks = {each[key] if key else each: rank for rank, each in enumerate(order)}
    ranked_items = [item for item in items if (item.get(key) if key else item) in ranks]
    rest = [item for item in items if item not in ranked_items]
    return sorted(ranked_items, key=lambda item: ranks[item.get(key) if key else item]) + rest


def _merge_key(name: str, items: Sequence[Any]) -> str | None:
    if not items or not all(isinstance(item, Mapping) for item in items):
        return None
    if name == "ports":
        return next((key for key in _PORT_MERGE_KEYS if any(key in item for item in items)), None)
    keys = LIST_MAP_KEYS.get(name)
    return keys[0] if keys else None
