"""What can be read of JSON that is not all of the shape that is expected. Pure.

A status may have been written by an earlier or later release. What of it cannot be read counts as absent, and nothing
else does: its owner decides and writes it again. Only what has no other shape is left out: an element of a list, a
field, or the struct that cannot be without that field.
"""

import types
from collections.abc import Callable, Sequence
from typing import TypeVar, cast, get_args, get_origin

import msgspec

T = TypeVar("T")
Decode = Callable[[msgspec.Raw, object], object]
"""Return JSON as a type. Raises ValueError with the reason."""


class Salvage:
    """Reads what can be read; `lost` names each part that cannot, with the reason."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self.lost: list[str] = []

    def read(self, raw: msgspec.Raw, kind: object, path: str) -> object:
        """Return JSON as a type, without the parts that cannot be read. Raises ValueError if that leaves nothing of it."""
        try:
            return self._decode(raw, kind)
        except ValueError:
            struct, element = _struct_in(kind), _element_of(kind)
            if struct is not None:
                return self._struct(raw, struct, path)
            if element is not None:
                return self._elements(raw, element, path)
            raise

    def _struct(self, raw: msgspec.Raw, struct: type[msgspec.Struct], path: str) -> object:
        parts = cast("dict[str, msgspec.Raw]", self._decode(raw, dict[str, msgspec.Raw]))
        values = {}
        for field in msgspec.structs.fields(struct):
            part = parts.get(field.encode_name)
            if part is None:
                continue
            try:
                values[field.name] = self.read(part, field.type, f"{path}.{field.encode_name}")
            except ValueError as error:
                if field.required:
                    raise
                self._lose(f"{path}.{field.encode_name}", error)
        return _struct_of(struct, values)

    def _elements(self, raw: msgspec.Raw, element: object, path: str) -> tuple[object, ...]:
        parts = cast("list[msgspec.Raw]", self._decode(raw, list[msgspec.Raw]))
        values = []
        for index, part in enumerate(parts):
            try:
                values.append(self.read(part, element, f"{path}[{index}]"))
            except ValueError as error:
                self._lose(f"{path}[{index}]", error)
        return tuple(values)

    def _lose(self, path: str, error: ValueError) -> None:
        self.lost.append(f"{path}: {error}")


def _struct_of(struct: type[T], values: dict[str, object]) -> T:
    """Return a struct of its readable fields. Raises ValueError if one that it cannot be without is not there."""
    try:
        return struct(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _struct_in(kind: object) -> type[msgspec.Struct] | None:
    """Return the struct that a type is, or that it is beside None."""
    options: Sequence[object] = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    structs = [one for one in options if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return structs[0] if len(structs) == 1 else None


def _element_of(kind: object) -> object | None:
    """Return the type of the elements of a tuple of any length."""
    arguments = get_args(kind)
    return arguments[0] if get_origin(kind) is tuple and arguments[1:] == (...,) else None
