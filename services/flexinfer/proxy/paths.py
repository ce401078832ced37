"""Paths: what a request's path names, in one form. Pure.

A path is decoded once, and what is compared with a backend's allow-list is what is sent: no escape, dot segment or double slash
means one thing to the proxy and another to an engine.
"""

import re
from urllib.parse import quote, unquote

from flexinfer.proxy import errors

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_READ_DIFFERENTLY = re.compile(r"[%\\;]")
"""What some servers decode again, take for a slash, or cut off."""
_SAFE = "/!$&'()*+,:=@"


def normalise(raw: str) -> str:
    """Return a path as it was sent, decoded once and without empty segments: `/v1//models/` is `/v1/models`.

    Raises RequestError (400) for one that has dot segments or is not text.
    """
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise errors.invalid_path("its escapes are not UTF-8") from None
    if _NOT_TEXT.search(path):
        raise errors.invalid_path("it holds bytes that are not text")
    segments = [segment for segment in path.split("/") if segment]
    dots = next((s for s in segments if s in {".", ".."}), None)
    if dots is not None:
        raise errors.invalid_path(f"it contains `{dots}`")
    return "/" + "/".join(segments)


def is_plain(path: str) -> bool:
    """Return whether a normalised path reads the same to every server."""
    return not _READ_DIFFERENTLY.search(path)


def encode(path: str) -> str:
    """Return a normalised path as it appears in a request line."""
    return quote(path, safe=_SAFE)
