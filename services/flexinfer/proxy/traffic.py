"""Traffic: what a proxy counts about the requests of one Model, and of each request what becomes part of it.

It is an attribute of the Model's route and ends with it, so no name that a client sends makes a series, and a deleted Model has none. A request costs
a few additions: nothing is formatted until someone asks for the metrics.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType

from flexinfer.api.durations import LONGEST_COLD_START_SECONDS
from flexinfer.proxy.errors import RequestError, response_cut
from flexinfer.proxy.wait_limits import Wait
from flexinfer.runtime.metrics import (
    COLD_START_WAIT,
    FIRST_TOKEN,
    REQUEST_DURATION,
    RETRY_CAUSES,
    SLOT_WAIT,
    Histogram,
)

CLIENT_LEFT = 499
"""The status of a request whose client left before the end of its response, as nginx has it; it is never sent."""
_INTERNAL_ERROR = 500
CLOSED, REFUSED = RETRY_CAUSES


class Traffic:
    """The requests of one Model so far, and those that wait for a cold start; `queue_seconds` is how long one may wait for a slot."""

    def __init__(self, queue_seconds: float = 0.0) -> None:
        self.open = self.cold_starts = 0
        self._starting = 0  # requests that wait for a cold start
        self.codes: dict[int, int] = {}  # status -> how many requests ended with it
        self.errors: Counter[str] = Counter()  # code of an error -> how often the proxy itself answered it
        self.retries: Counter[str] = Counter()  # cause -> how often
        waits = LONGEST_COLD_START_SECONDS + queue_seconds
        self.durations, self.first_tokens = Histogram(REQUEST_DURATION, waits), Histogram(FIRST_TOKEN, waits)
        self.cold_start_waits, self.slot_waits = (
            Histogram(COLD_START_WAIT),
            Histogram(SLOT_WAIT, queue_seconds),
        )

    def begin(self) -> None:
        """Count a request that has arrived."""
        self.open += 1

    def end(self, code: int, seconds: float) -> None:
        """Count the end of one: the status of its response, and how long it took in all."""
        self.open -= 1
        self.codes[code] = self.codes.get(code, 0) + 1
        self.durations.observe(seconds)

    @contextlib.contextmanager
    def cold_start(self) -> Iterator[None]:
        """Count a cold start that is asked for, if no other request waits for it: until the block ends this one does."""
        self.cold_starts += not self._starting
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1


class Passage:
    """One request of a Model: counted as open while its block runs, and at the end with its status and its times.

    `code` is the status of its response, 200 until another is set; an exception that ends the block has its own. `awaits_token` is true from the head
    of a stream until its first bytes, `is_complete` once its last event was sent, though its client may leave before HTTP's end of it.
    """

    __slots__ = (
        "_clock",
        "_cold_start_seconds",
        "_slot_seconds",
        "arrived_at",
        "awaits_token",
        "code",
        "is_complete",
        "traffic",
    )

    def __init__(self, traffic: Traffic, clock: Callable[[], float]) -> None:
        self.traffic, self._clock, self.arrived_at = traffic, clock, clock()
        self.code, self.awaits_token, self.is_complete = 200, False, False
        self._cold_start_seconds: float | None = None  # None: it did not wait for that
        self._slot_seconds: float | None = None

    def __enter__(self) -> None:
        self.traffic.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cold_start_seconds is not None:
            self.traffic.cold_start_waits.observe(self._cold_start_seconds)
        if self._slot_seconds is not None:
            self.traffic.slot_waits.observe(self._slot_seconds)
        code = self.code if error is None or self.is_complete else _code_of(error)
        self.traffic.end(code, self._clock() - self.arrived_at)

    def answer(self, code: int, *, is_stream: bool) -> None:
        """Note the head of the engine's response."""
        self.code, self.awaits_token = code, is_stream

    def first_token(self) -> None:
        """Note that the first bytes of a stream have arrived."""
        self.awaits_token = False
        self.traffic.first_tokens.observe(self._clock() - self.arrived_at)

    def cut_off(self, *, by_client: bool = False) -> None:
        """Note that the response ended before it was complete: by the engine, or because its client left or took nothing of it."""
        if by_client:
            self.code = self.code if self.is_complete else CLIENT_LEFT
            return
        error = response_cut()
        self.code = error.status
        self.traffic.errors[error.code] += 1

    @contextlib.contextmanager
    def waiting(self, wait: Wait) -> Iterator[None]:
        """Count the time of the block as waited."""
        began = self._clock()
        if wait is Wait.SLOT:
            try:
                yield
            finally:
                self._slot_seconds = (self._slot_seconds or 0.0) + self._clock() - began
            return
        try:
            with self.traffic.cold_start():
                yield
        finally:
            self._cold_start_seconds = (self._cold_start_seconds or 0.0) + self._clock() - began


def _code_of(error: BaseException) -> int:
    """Return the status of a request that an exception ended: its own, 500 for a defect, else it was cancelled since its client left."""
    if isinstance(error, RequestError):
        return error.status
    return _INTERNAL_ERROR if isinstance(error, Exception) else CLIENT_LEFT
