"""Decoding of protobuf bodies: those of `kubectl create namespace`, `configmap` and `secret`, and of `kubectl drain`.

Like apimachinery/pkg/runtime/serializer/protobuf, with the fields of generated.proto (k8s.io/api/{core,policy}/v1,
apimachinery/pkg/apis/meta/v1) that these commands set. Any other kind in protobuf is a 415, and no response is ever protobuf.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from localkube.apiserver.errors import bad_request, unsupported_media_type
from localkube.apiserver.resources import Object

MEDIA = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Shape = Literal["text", "texts", "bytes", "map", "bytes map", "flag", "number", "message"]


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a message: its name in JSON, and the type that its bytes encode."""

    name: str
    shape: _Shape
    message: Mapping[int, "_Field"] | None = None


_META = {
    1: _Field("name", "text"),
    2: _Field("generateName", "text"),
    3: _Field("namespace", "text"),
    11: _Field("labels", "map"),
    12: _Field("annotations", "map"),
    14: _Field("finalizers", "texts"),
}
_METADATA = _Field("metadata", "message", _META)
_DELETE_OPTIONS = {
    1: _Field("gracePeriodSeconds", "number"),
    2: _Field("preconditions", "message", {1: _Field("uid", "text"), 2: _Field("resourceVersion", "text")}),
    3: _Field("orphanDependents", "flag"),
    4: _Field("propagationPolicy", "text"),
    5: _Field("dryRun", "texts"),
}
_KINDS: Mapping[tuple[str, str], Mapping[int, _Field]] = {
    ("v1", "Namespace"): {1: _METADATA},
    ("v1", "DeleteOptions"): _DELETE_OPTIONS,
    ("policy/v1", "Eviction"): {1: _METADATA, 2: _Field("deleteOptions", "message", _DELETE_OPTIONS)},
    ("v1", "ConfigMap"): {
        1: _METADATA,
        2: _Field("data", "map"),
        3: _Field("binaryData", "bytes map"),
        4: _Field("immutable", "flag"),
    },
    ("v1", "ServiceAccount"): {1: _METADATA, 4: _Field("automountServiceAccountToken", "flag")},
    ("v1", "Secret"): {
        1: _METADATA,
        2: _Field("data", "bytes map"),
        3: _Field("type", "text"),
        4: _Field("stringData", "map"),
        5: _Field("immutable", "flag"),
    },
}
_TYPE_META = {1: _Field("apiVersion", "text"), 2: _Field("kind", "text")}
_ENVELOPE_TYPE, _ENVELOPE_RAW = 1, 2


def decode(content: bytes) -> Object:
    """Return the object of a body.

    Raises ApiError 415 for an unsupported kind, 400 for malformed protobuf.
    """
    if not content.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix")
    try:
        envelope = dict(_fields(content[len(_MAGIC) :]))
        type_meta = _message(envelope.get(_ENVELOPE_TYPE, b""), _TYPE_META)
        kind = type_meta.get("kind", "")
        # Every group has the DeleteOptions of meta/v1.
        fields = _KINDS.get(("v1" if kind == "DeleteOptions" else type_meta.get("apiVersion", ""), kind))
        if fields is None:
            raise unsupported_media_type(f"a {type_meta.get('kind', 'body')} is taken as JSON or YAML only")
        return type_meta | _message(envelope.get(_ENVELOPE_RAW, b""), fields)
    except (IndexError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise bad_request(f"error decoding protobuf: {error}") from error


def _message(content: Any, fields: Mapping[int, _Field]) -> Object:
    message: Object = {}
    for number, value in _fields(content):
        field = fields.get(number)
        if field is not None:
            _put(message, field, value)
    return message


def _put(message: Object, field: _Field, value: Any) -> None:
    match field.shape:
        case "text":
            if value:
                message[field.name] = value.decode()
        case "texts":
            message.setdefault(field.name, []).append(value.decode())
        case "bytes":
            message[field.name] = base64.b64encode(value).decode()
        case "flag":
            message[field.name] = bool(value)
        case "number":
            message[field.name] = value - (1 << 64) if value >= 1 << 63 else value
        case "message":
            message[field.name] = _message(value, field.message or {})
        case "map" | "bytes map":
            shape: _Shape = "text" if field.shape == "map" else "bytes"
            entry = {"key": "", "value": ""}
            entry |= _message(value, {1: _Field("key", "text"), 2: _Field("value", shape)})
            message.setdefault(field.name, {})[entry["key"]] = entry["value"]


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the (number, value) pairs of a message; raises ValueError or IndexError when it is malformed."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(content, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, position = _varint(content, position)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if position + length > len(content):
            raise ValueError("unexpected end")
        yield key >> 3, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004
            return value, position
        if shift > 63:  # noqa: PLR2004
            raise ValueError("a number is too long")
