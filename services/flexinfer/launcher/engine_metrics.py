"""The number of requests in flight that an engine itself reports, read from its metrics. Pure.

An engine is the tenant's: any text may come, so reading it is total, and its cost is linear in a bounded text.
"""

import itertools
import math
import re

LONGEST_TEXT = 1 << 18
"""Characters of an engine's answer that are looked at."""
_MOST_SAMPLES = 1000
_MOST_REQUESTS = 1_000_000
"""More than any engine has in flight: a larger number is cut to this one."""
_NUMBER = re.compile(
    r"\+?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,9})?", re.ASCII
)
"""A decimal number that is not negative, as the Prometheus text format writes it; not NaN or Inf, which count nothing."""


def in_flight(text: str, metrics: tuple[str, ...]) -> int | None:
    """Return the sum of gauges in the Prometheus text format.

    None if it is unknown: the text has none of them, one of them is not a number of requests, or there are more samples than an engine has.
    """
    samples = [sample for name in metrics for sample in _samples(text[:LONGEST_TEXT], name)]
    values = [_requests(sample) for sample in samples]
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values) or len(values) > _MOST_SAMPLES:
        return None
    return round(sum(numbers))


def _samples(text: str, name: str) -> list[str]:
    """Return what follows a metric's name and labels in each of its lines, up to one more than is allowed."""
    lines = re.finditer(rf"^{re.escape(name)}([{{ \t][^\n]*)", text, re.MULTILINE)
    # Neither the value nor the timestamp after it has a brace, a label's value may have one.
    return [line.group(1).rpartition("}")[2] for line in itertools.islice(lines, _MOST_SAMPLES + 1)]


def _requests(sample: str) -> float | None:
    """Return the number of a sample, which a timestamp may follow; None if it is not a number of requests."""
    words = sample.split(maxsplit=2)
    if len(words) not in (1, 2) or _NUMBER.fullmatch(words[0]) is None:
        return None
    value = float(words[0])
    return min(value, _MOST_REQUESTS) if math.isfinite(value) else None
