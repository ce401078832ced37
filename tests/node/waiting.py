"""Waiting for a condition by polling."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.patience import patient

Seen = TypeVar("Seen")
_LOOK_SECONDS = 0.1


def until(look: Callable[[], Seen], seconds: float, what: str) -> Seen:
    """Return the first true result of `look`, which is polled; fails with the last result when it took several times longer than `seconds`."""
    limit = patient(seconds)
    deadline = time.monotonic() + limit
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}; last seen: {seen!r}"
        time.sleep(_LOOK_SECONDS)  # the polling interval
    return seen
