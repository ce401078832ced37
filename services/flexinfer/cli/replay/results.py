"""What a replay came to: how long each request waited, how often Models were swapped, who held the card when. Pure."""

from collections.abc import Sequence

import msgspec

LOADING, SERVING, LEAVING = "loading", "ready", "leaving"
COLD_START_SECONDS = 60.0
"""The default of spec.serverless.coldStartTimeout: the proxy answers a request that waits longer with 503."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One request; times in seconds from the beginning of the trace.

    `swapped`: another Model had to leave before it was answered. `cut`: its answer was not complete when the drain deadline ended it.
    """

    number: int
    model: str
    at: float
    started: float
    ended: float
    swapped: bool
    cut: bool = False

    @property
    def wait(self) -> float:
        """Seconds from its arrival until an engine began to answer it, to a microsecond: sums of floats are not exact."""
        return max(0.0, round(self.started - self.at, 6))


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which a Model held memory of the card."""

    model: str
    step: str
    begin: float
    end: float
    memory_mb: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A whole replay; `swaps` are the times at which a Model was granted the card for which another had left.

    `unanswered` is how many requests still waited when it was ended.
    """

    policy: str
    served: tuple[Served, ...]
    unanswered: int = 0
    spans: tuple[Span, ...]
    swaps: tuple[float, ...]
    loads: int

    @property
    def without_swap(self) -> float:
        """The share of the requests that were answered without a swap, from 0 to 1."""
        return sum(not one.swapped for one in self.served) / max(1, len(self.served) + self.unanswered)

    def of(self, *models: str) -> "Waits":
        """Return the waits of some Models; of all if none is named."""
        return waits_of([one.wait for one in self.served if not models or one.model in models])


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """Waits in seconds; `late` is how many were longer than the default coldStartTimeout."""

    count: int
    mean: float = 0.0
    median: float = 0.0
    p95: float = 0.0
    longest: float = 0.0
    late: int = 0


def waits_of(waits: Sequence[float]) -> Waits:
    """Return what a number of waits come to."""
    if not waits:
        return Waits(count=0)
    values = sorted(waits)
    return Waits(
        count=len(values),
        mean=sum(values) / len(values),
        median=_quantile(values, 0.5),
        p95=_quantile(values, 0.95),
        longest=values[-1],
        late=sum(wait > COLD_START_SECONDS for wait in values),
    )


def _quantile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that is not below that part of all."""
    return values[max(0, -(-int(part * 100) * len(values) // 100) - 1)]
