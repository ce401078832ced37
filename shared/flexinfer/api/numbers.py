"""Numbers that others wrote into labels, annotations and versions. Pure and total: a bad one raises nothing."""

import re

_WHOLE = re.compile(r"[0-9]{1,18}")
LARGEST = 2**63 - 1
"""The largest number that the API server and every reader of JSON keep exactly."""


def whole_number(text: str) -> int | None:
    """Return a whole number, as FlexInfer and the API server write them; None if the text is none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def bounded(number: int) -> int:
    """Return the number, or the nearest one of 64 bits."""
    return max(-LARGEST, min(LARGEST, number))
