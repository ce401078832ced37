"""Objects of the API server as structs: one that cannot be read costs nothing but itself. Pure.

A Model whose spec cannot be read (written through an older CRD, or nested so deep that no program reads it)
is a Model with an empty spec that says why: its status can be written, and it can be deleted. What cannot be read of
a Model's status counts as absent, and makes nothing of its spec invalid; the watcher takes it out of the object. A SharedGroup is read whole or not at all: a
holder that is left out would be a device that is given to two.
"""

import re
from typing import TypeVar, cast

import msgspec

from flexinfer.api.kinds import Kind
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model, ModelSpec, ModelStatus
from flexinfer.runtime.kubernetes.salvage import Salvage

T = TypeVar("T")
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


def read(kind: Kind[T], raw: bytes | msgspec.Raw) -> T:
    """Return an object of a kind. Raises UnreadableError; for a Model only if its metadata cannot be read."""
    try:
        return decode(raw, kind.type)
    except UnreadableError:
        if kind.type is not Model:
            raise
        return msgspec.convert(_of_parts(raw), kind.type)


def name_of(raw: bytes | msgspec.Raw) -> str:
    """Return the key of an object that cannot be read, as far as it says."""
    try:
        return decode(raw, _Parts).metadata.key
    except UnreadableError:
        return "an object without metadata"


def _of_parts(raw: bytes | msgspec.Raw) -> Model:
    """Return a Model of what can be read. Raises UnreadableError if its metadata cannot be."""
    parts = decode(raw, _Parts)
    status, unreadable_fields = _status(parts.status)
    model = Model(
        metadata=parts.metadata,
        spec=ModelSpec(backend="", source=""),
        status=status,
        unreadable_status=unreadable_fields,
    )
    try:
        return msgspec.structs.replace(model, spec=decode(parts.spec, ModelSpec))
    except UnreadableError as error:
        cause = str(error).replace("`$", "`$.spec") if "`$" in str(error) else f"{error} - at `$.spec`"
        return msgspec.structs.replace(model, unreadable=cause)


def _status(raw: msgspec.Raw) -> tuple[ModelStatus, tuple[str, ...]]:
    """Return what can be read of a status, and what cannot, each with the reason."""
    salvage = Salvage(_decode)
    try:
        status = salvage.read(raw, ModelStatus, "status")
    except UnreadableError as error:
        return ModelStatus(), (f"status: {error}",)
    return cast("ModelStatus", status), tuple(salvage.lost)


def _shallow(raw: bytes) -> bytes:
    """Return JSON with null in place of what is nested too deep."""
    pieces, depth, start = [], 0, 0
    for token in _TOKEN.finditer(raw):
        if token[0] in b"[{":
            depth += 1
            if depth == _DEEPEST:
                pieces.append(raw[start : token.start()] + b"null")
        elif token[0] in b"]}":
            if depth == _DEEPEST:
                start = token.end()
            depth -= 1
    return b"".join([*pieces, raw[start:]])
