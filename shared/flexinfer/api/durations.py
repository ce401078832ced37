"""Durations as specs and settings write them, such as `1h30m`, and delays that grow. Pure."""

import re
from functools import lru_cache

_DURATION = re.compile(r"(?:[0-9]{1,15}(?:ms|s|m|h)){1,16}")
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h)")
LONGEST_COLD_START_SECONDS = 7200.0
"""The largest `spec.serverless.coldStartTimeout` that the CRD allows."""
_MOST_DOUBLINGS = 16
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@lru_cache(maxsize=1024)
def seconds(duration: str) -> float:
    """Return a duration such as `1h30m` or `500ms` in seconds. Raises ValueError if it is none."""
    if not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration[:40]!r} is not a duration such as 90s, 5m or 1h30m")
    return sum(int(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_PART.findall(duration))


def seconds_or(duration: str, default: str) -> float:
    """Return a duration in seconds, or that of the default if the text is none."""
    try:
        return seconds(duration)
    except ValueError:
        return seconds(default)


def back_off(first: float, repeats: int, longest: float) -> float:
    """Return the seconds before another attempt, doubling with each repeat up to a longest."""
    return min(first * 2.0 ** min(repeats, _MOST_DOUBLINGS), longest)
