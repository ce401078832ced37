"""Waiting for a condition, by looking often."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")
_LOOK_SECONDS = 0.1


def until(look: Callable[[], Seen], seconds: float, told: str) -> Seen:
    """Return what a look returns as soon as it is true; fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {told}; last seen: {seen!r}"
        time.sleep(_LOOK_SECONDS)  # between two looks, not instead of one
    return seen
