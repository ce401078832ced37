"""Numbers that others wrote into labels, annotations and versions, and numbers in messages. Pure and total: a bad one raises nothing."""

import re
from collections.abc import Sequence
from functools import lru_cache

_DIGITS = 18
_WHOLE = re.compile(rf"[0-9]{{1,{_DIGITS}}}")
LARGEST = 2**63 - 1
"""The largest number that the API server and every reader of JSON keep exactly."""


def whole_number(text: str) -> int | None:
    """Return a whole number, as FlexInfer and the API server write them; None if the text is none."""
    return _number(text) if len(text) <= _DIGITS else None  # an annotation of 256 KiB is not kept


@lru_cache(maxsize=4096)
def _number(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def bounded(number: int) -> int:
    """Return the number, or the nearest one of 64 bits."""
    if -LARGEST <= number <= LARGEST:
        return number
    return LARGEST if number > 0 else -LARGEST


def listed(names: Sequence[str]) -> str:
    """Return names as a part of a sentence, such as `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def counted(number: int, noun: str) -> str:
    """Return a number with its noun for a message, such as `1 request` or `3 requests`."""
    return f"{number} {noun if number == 1 else f'{noun}s'}"
