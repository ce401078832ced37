"""Forms: the field `model` of a body of multipart/form-data (RFC 7578), found without reading the files in it. Pure.

The proxy and the engine must read the same model: a form that says it twice is refused.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from flexinfer.proxy import errors

TYPE = "multipart/form-data"
_MOST_PARTS = 128
_LONGEST_HEAD, _LONGEST_NAME = 16 << 10, 1024
_PARAMETER = re.compile(rb"\s*;\s*([!#$%&'*+.^_`|~\w-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]*))")
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_ESCAPED = re.compile(rb"\\(.)")
_LINE_END = re.compile(rb"[ \t]*\r\n")


class Field(NamedTuple):
    """A field of a form: its value, and where its bytes are in the body."""

    value: str
    start: int
    end: int


class _Part(NamedTuple):
    """Where head and content of a part are."""

    head: int
    start: int
    end: int


def is_form(content_type: str) -> bool:
    """Return whether a body is a form."""
    return content_type.partition(";")[0].strip().lower() == TYPE


def model_field(body: bytes, content_type: str) -> Field | None:
    """Return the field `model`, None if there is none. Raises RequestError (400) for what is not a form, or has two of them."""
    fields = [
        part for part in _parts(body, _boundary(content_type)) if _name(body[part.head : part.start]) == b"model"
    ]  # fmt: skip
    if not fields:
        return None
    if len(fields) > 1:
        raise errors.invalid_form("it has the field `model` twice")
    _, start, end = fields[0]
    if end - start > _LONGEST_NAME:
        raise errors.invalid_form(f"its field `model` is longer than {_LONGEST_NAME} bytes")
    try:
        return Field(body[start:end].decode(), start, end)
    except UnicodeDecodeError:
        raise errors.invalid_form("its field `model` is not UTF-8") from None


def with_model(body: bytes, field: Field, name: str) -> bytes:
    """Return a form with another `model`, and every other byte as the client sent it."""
    return b"".join((body[: field.start], name.encode(), body[field.end :]))


def _boundary(content_type: str) -> bytes:
    head = content_type.encode(errors="replace")
    boundary = _parameters(head[len(head.partition(b";")[0]) :]).get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise errors.invalid_form("its Content-Type has no boundary of 1 to 70 characters")
    return boundary


def _parts(body: bytes, boundary: bytes) -> Iterator[_Part]:
    """Yield the parts in order. Raises RequestError (400) where the form is cut short or has too many."""
    delimiter = b"\r\n--" + boundary
    head = _first(body, delimiter)
    for _ in range(_MOST_PARTS):
        if not head:
            return
        start = body.find(b"\r\n\r\n", head - 2, head + _LONGEST_HEAD)
        if start < 0:
            raise errors.invalid_form("one of its parts has no headers, or too long ones")
        end, following = _delimiter(body, delimiter, start + 4)
        yield _Part(head, start + 4, end)
        head = following
    raise errors.invalid_form(f"it has more than {_MOST_PARTS} parts")


def _first(body: bytes, delimiter: bytes) -> int:
    """Return where the first part begins, 0 if there is none: a delimiter at the start of a body has no line before it."""
    line = delimiter.removeprefix(b"\r\n")
    if not body.startswith(line):
        return _delimiter(body, delimiter, 0)[1]
    if body.startswith(b"--", len(line)):
        return 0
    line_end = _LINE_END.match(body, len(line))
    return line_end.end() if line_end else _delimiter(body, delimiter, 0)[1]


def _delimiter(body: bytes, delimiter: bytes, position: int) -> tuple[int, int]:
    """Return where the next delimiter begins, and where what follows its line does; 0 after the last one.

    Raises RequestError (400) if there is none.
    """
    while (begin := body.find(delimiter, position)) >= 0:
        after = begin + len(delimiter)
        if body.startswith(b"--", after):
            return begin, 0
        line = _LINE_END.match(body, after)
        if line:
            return begin, line.end()
        position = after  # a longer word that begins like the boundary
    raise errors.invalid_form("it ends before its last boundary")


def _name(head: bytes) -> bytes:
    """Return the name of the field of a part; empty if it has none."""
    for line in head.split(b"\r\n"):
        header, _, value = line.partition(b":")
        if header.strip().lower() == b"content-disposition":
            return _parameters(value[len(value.partition(b";")[0]) :]).get(b"name", b"")
    return b""


def _parameters(text: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a header, which begin at its first semicolon; the first of a name counts."""
    values: dict[bytes, bytes] = {}
    position = 0
    while match := _PARAMETER.match(text, position):
        name, quoted, plain = match.groups()
        value = plain if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        values.setdefault(name.lower(), value)
        position = match.end()
    return values
