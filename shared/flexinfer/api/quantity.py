"""Kubernetes quantities (`500m`, `4Gi`) as integers in thousandths. Pure."""

from typing import TypeAlias

Quantity: TypeAlias = str | int
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_SMALL = {"n": 10**-9, "u": 10**-6, "m": 10**-3}
_SCALES = {**_DECIMAL, **_BINARY, **_SMALL}


def milli(quantity: Quantity) -> int:
    """Return a quantity in thousandths of its unit (cores, bytes), rounded up.

    Raises ValueError if the text is not a quantity, OverflowError if it is not finite.
    """
    text = str(quantity)
    number = text.rstrip("EKMGTPiknum") if "e" not in text.lower()[1:-1] else text
    scale = _SCALES.get(text[len(number) :])
    if scale is None:
        raise ValueError(f"{text!r} is not a quantity")
    value = float(number) * scale * 1000
    return int(value) if value == int(value) else int(value) + 1
