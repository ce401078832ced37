"""Validation of OpenAPI formats: those of the formats that Kubernetes validates which the schemas here use.

An unknown format accepts every value, as in Kubernetes.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


def matches_format(name: str, value: str) -> bool:
    """Return whether a text has the format, for example `date-time` or `byte`."""
    matches = _FORMATS.get(name)
    return matches is None or matches(value)


def _is_time(value: str) -> bool:
    if not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(re.sub(r"\.\d+", "", value).upper())
    except ValueError:
        return False
    return True


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error:
        return False
    return True


_FORMATS: Mapping[str, Callable[[str], bool]] = {"date-time": _is_time, "byte": _is_base64}
