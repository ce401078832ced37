"""Objects of the API server as structs: one that cannot be read costs nothing but itself. Pure.

A Model whose spec cannot be read (written through an older CRD, or nested so deep that no program reads it)
is a Model with an empty spec that says why: its status can be written, and it can be deleted. What cannot be read of
a Model's status counts as absent, and makes nothing of its spec invalid. A SharedGroup is read whole or not at all: a
holder that is left out would be a device that is given to two.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar, cast

import msgspec

from flexinfer.api.kinds import Kind
from flexinfer.api.model import Metadata, Model, ModelSpec, ModelStatus
from flexinfer.runtime.kubernetes.salvage import Salvage

T = TypeVar("T")
Lost: TypeAlias = Callable[[Metadata, Sequence[str]], None]
"""Takes the parts of an object's status that cannot be read, each with its path and the reason."""
_DEEPEST = 64
"""Levels of JSON that are read; every field that a component reads is above."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


class UnreadableError(ValueError):
    """JSON is not an object of the kind; the message names the field."""


class _Parts(msgspec.Struct):
    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"null")
    status: msgspec.Raw = msgspec.Raw(b"{}")


def decode(raw: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return JSON as a struct; what is nested too deep to be read is null. Raises UnreadableError."""
    return cast("T", _decode(raw, kind))


def _decode(raw: bytes | msgspec.Raw, kind: object) -> object:
    """Return JSON as whatever type msgspec reads. Raises UnreadableError."""
    try:
        value: object = msgspec.json.decode(raw, type=kind)
    except RecursionError:
        return _decode(_shallow(bytes(raw)), kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error
    return value


def read(kind: Kind[T], raw: bytes | msgspec.Raw, lost: Lost = lambda _metadata, _parts: None) -> T:
    """Return an object of a kind; `lost` is called with what of a Model's status cannot be read.

    Raises UnreadableError; for a Model only if its metadata cannot be read.
    """
    try:
        return decode(raw, kind.type)
    except UnreadableError:
        if kind.type is not Model:
            raise
        return msgspec.convert(_of_parts(raw, lost), kind.type)


def name_of(raw: bytes | msgspec.Raw) -> str:
    """Return the key of an object that cannot be read, as far as it says."""
    try:
        return decode(raw, _Parts).metadata.key
    except UnreadableError:
        return "an object without metadata"


def _of_parts(raw: bytes | msgspec.Raw, lost: Lost) -> Model:
    """Return a Model of what can be read. Raises UnreadableError if its metadata cannot be."""
    parts = decode(raw, _Parts)
    status = _status(parts, lost)
    try:
        spec = decode(parts.spec, ModelSpec)
    except UnreadableError as error:
        cause = str(error).replace("`$", "`$.spec") if "`$" in str(error) else f"{error} - at `$.spec`"
        empty = ModelSpec(backend="", source="")
        return Model(metadata=parts.metadata, spec=empty, status=status, unreadable=cause)
    return Model(metadata=parts.metadata, spec=spec, status=status)


def _status(parts: _Parts, lost: Lost) -> ModelStatus:
    salvage = Salvage(_decode)
    try:
        status = salvage.read(parts.status, ModelStatus, "status")
    except UnreadableError as error:
        lost(parts.metadata, [f"status: {error}"])
        return ModelStatus()
    if salvage.lost:
        lost(parts.metadata, salvage.lost)
    return status if isinstance(status, ModelStatus) else ModelStatus()


def _shallow(raw: bytes) -> bytes:
    """Return JSON with null in place of what is nested too deep."""
    kept, depth, start = [], 0, 0
    for token in _TOKEN.finditer(raw):
        if token[0] in b"[{":
            depth += 1
            if depth == _DEEPEST:
                kept.append(raw[start : token.start()] + b"null")
        elif token[0] in b"]}":
            if depth == _DEEPEST:
                start = token.end()
            depth -= 1
    return b"".join([*kept, raw[start:]])
