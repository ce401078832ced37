"""The typed operations of server-side apply: the field set of a value, merge, compare and prune.

Like sigs.k8s.io/structured-merge-diff/typed. Objects merge by field, `map` lists by key, `set` lists by
value, atomic values as a whole, as their Shape says. Results share unchanged parts with their inputs, so most
comparisons end at an identity. Conflicts and managers are handled in `apply`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from localkube.apiserver.managed_fields import Fields, as_member, member
from localkube.apiserver.merge_schema import ANYTHING, Shape
from localkube.apiserver.resources import Object

_LEAF: Final[Fields] = {}


class DuplicateKeyError(Exception):
    """Two items of an applied list have the same keys.

    `path` leads to the list, as fieldsV1 path elements.
    """

    def __init__(self, element: str) -> None:
        super().__init__(element)
        self.element = element
        self.path: list[str] = []


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal; True does not equal 1."""
    if left is right:
        return True
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def owned(value: Any, shape: Shape) -> Fields:
    """Return the field set that an applied value owns, as a fieldsV1 node; raises DuplicateKeyError."""
    if isinstance(value, dict) and not shape.whole:
        return {f"f:{name}": _owned_field(below, name, shape) for name, below in value.items()}
    if isinstance(value, list) and shape.listing != "atomic":
        return _owned_items(value, shape)
    return _LEAF


def _owned_items(value: list[Any], shape: Shape) -> Fields:
    items = shape.items or ANYTHING
    fields: Fields = {}
    for item in value:
        element = shape.element(item)
        if element in fields:
            raise DuplicateKeyError(element)
        try:
            fields[element] = as_member(owned(item, items))
        except DuplicateKeyError as error:
            error.path.insert(0, element)
            raise
    return fields


def _owned_field(value: Any, name: str, shape: Shape) -> Fields:
    if not isinstance(value, dict | list):
        return _LEAF
    try:
        node = owned(value, shape.child(name))
    except DuplicateKeyError as error:
        error.path.insert(0, f"f:{name}")
        raise
    return node if name in shape.fields else as_member(node)


def everything(value: Any, shape: Shape) -> Fields:
    """Return the field set of an added or removed value: its leaves and the containers around them."""
    if isinstance(value, dict) and not shape.whole:
        below = {f"f:{name}": everything(each, shape.child(name)) for name, each in value.items()}
    elif isinstance(value, list) and shape.listing != "atomic":
        items = shape.items or ANYTHING
        below = {shape.element(item): everything(item, items) for item in value}
    else:
        return _LEAF
    return as_member(below)


def merge(live: Any, applied: Any, shape: Shape) -> Any:
    """Return live with the applied value merged into it; live itself if that changes nothing."""
    if isinstance(live, dict) and isinstance(applied, dict) and not shape.whole:
        return _merge_map(live, applied, shape)
    if isinstance(live, list) and isinstance(applied, list) and shape.listing != "atomic":
        return _merge_list(live, applied, shape)
    return live if same(live, applied) else applied


def _merge_map(live: Object, applied: Object, shape: Shape) -> Object:
    out = live
    for name, value in applied.items():
        child = merge(live[name], value, shape.child(name)) if name in live else value
        if name not in live or child is not live[name]:
            if out is live:
                out = dict(live)
            out[name] = child
    return out


def _merge_list(live: list[Any], applied: list[Any], shape: Shape) -> list[Any]:
    items = shape.items or ANYTHING
    before = {shape.element(item): item for item in live}
    desired = {shape.element(item): item for item in applied}
    results = {
        element: merge(before[element], item, items) if element in before else item
        for element, item in desired.items()
    }
    out = [{**before, **results}[element] for element in _order(list(before), list(desired))]
    return live if len(out) == len(live) and all(a is b for a, b in zip(out, live, strict=True)) else out


def _order(live: Sequence[str], applied: Sequence[str]) -> Sequence[str]:
    """Return the merged order: applied items in their order, every other item behind the one it followed."""
    if [element for element in live if element in set(applied)] == list(applied):
        return live
    if set(live).isdisjoint(applied):
        return [*live, *applied]
    rank = {element: index for index, element in enumerate(applied)}
    out: list[str] = []
    remaining = list(applied)
    for element in live:
        if element not in rank:
            out.append(element)
        elif element in remaining:
            upto = remaining.index(element) + 1
            out.extend(remaining[:upto])
            remaining = remaining[upto:]
    return [*out, *remaining]


@dataclass(frozen=True, slots=True)
class Difference:
    """The field sets in which two values differ: changed or added, and removed; None: empty."""

    changed: Fields | None = None
    removed: Fields | None = None


NO_DIFFERENCE: Final = Difference()
_ALL_NEW: Final = Difference(changed=_LEAF)


def compare(old: Any, new: Any, shape: Shape) -> Difference:
    """Return the difference of two values."""
    if old is new:
        return NO_DIFFERENCE
    if isinstance(old, dict) and isinstance(new, dict) and not shape.whole and (old or new):
        return _compare_items(old, new, shape, "f:")
    if isinstance(old, list) and isinstance(new, list) and shape.listing != "atomic" and (old or new):
        below = Shape(other=shape.items)
        old_items = {shape.element(item): item for item in old}
        return _compare_items(old_items, {shape.element(item): item for item in new}, below, "")
    return NO_DIFFERENCE if same(old, new) else _ALL_NEW


def _compare_items(old: Object, new: Object, shape: Shape, prefix: str) -> Difference:
    changed_fields: Fields = {}
    removed_fields: Fields = {}
    for name, value in new.items():
        if name not in old:
            changed_fields[prefix + name] = everything(value, shape.child(name))
            continue
        below = compare(old[name], value, shape.child(name))
        if below.changed is not None:
            changed_fields[prefix + name] = below.changed
        if below.removed is not None:
            removed_fields[prefix + name] = below.removed
    for name in old.keys() - new.keys():
        removed_fields[prefix + name] = everything(old[name], shape.child(name))
    return (
        Difference(changed_fields or None, removed_fields or None)
        if changed_fields or removed_fields
        else NO_DIFFERENCE
    )


def prune(value: Any, shape: Shape, previous: Fields, owned_fields: Fields) -> Any:
    """Return the value without the fields that its applier owned before and that no manager owns now."""
    if isinstance(value, dict) and not shape.whole:
        remaining = {
            name: below
            for name, old in value.items()
            if (
                below := _pruned(
                    old,
                    f"f:{name}",
                    shape.child(name),
                    (previous, owned_fields),
                    declared=name in shape.fields,
                )
            )
            is not _GONE
        }
        unchanged = len(remaining) == len(value) and all(remaining[name] is value[name] for name in remaining)
        return value if unchanged else remaining
    if isinstance(value, list) and shape.listing != "atomic":
        items = shape.items or ANYTHING
        results = [
            _pruned(item, shape.element(item), items, (previous, owned_fields), declared=False)
            for item in value
        ]
        stay = [item for item in results if item is not _GONE]
        unchanged = len(stay) == len(value) and all(a is b for a, b in zip(stay, value, strict=True))
        return value if unchanged else stay
    return value


_GONE: Final[Any] = object()


def _pruned(value: Any, name: str, shape: Shape, sets: tuple[Fields, Fields], *, declared: bool) -> Any:
    previous, owned_fields = sets
    before, now = previous.get(name), owned_fields.get(name)
    if before is None:
        return value
    is_claimed = now is not None and (declared or member(now))
    if (declared or member(before)) and not is_claimed:
        return _GONE
    return prune(value, shape, before, now or {}) if before else value
