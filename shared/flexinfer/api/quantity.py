"""Kubernetes quantities (`500m`, `4Gi`) as integers in thousandths. Pure."""

import math
import re
from fractions import Fraction
from typing import TypeAlias

from flexinfer.api.numbers import bounded

Quantity: TypeAlias = str | int
_FORM = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40}))"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]{1,2}))?"
)
_DECIMAL = {"k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "m": -3, "u": -6, "n": -9}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def milli(quantity: Quantity) -> int:
    """Return a quantity in thousandths of its unit (cores, bytes), rounded up, at most 2^63-1 of them.

    Raises ValueError if the text is not a quantity.
    """
    if isinstance(quantity, int):
        return bounded(quantity * 1000)
    form = _FORM.fullmatch(quantity)
    if form is None:
        raise ValueError(f"{quantity[:40]!r} is not a quantity")
    return bounded(math.ceil(Fraction(form["number"]) * _scale(form) * 1000))


def _scale(form: re.Match[str]) -> Fraction:
    suffix = form["suffix"] or ""
    if suffix in _BINARY:
        return Fraction(_BINARY[suffix])
    return Fraction(10) ** int(form["exponent"] or _DECIMAL.get(suffix, 0))
