"""Metrics that components expose at /metrics of their health ports: the table, and the values that a component keeps of them. Pure.

The reference page of metrics is generated from the table. Labels have values of fixed sets or name a Model that exists, never what a client sent:
a series that is made by a request would be made without end.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from flexinfer.api.durations import LONGEST_COLD_START_SECONDS

CAUSES = ("api", "nats", "storage", "watermark")
"""What can keep a component from seeing or writing."""
RETRY_CAUSES = ("connection_closed", "connection_refused")
"""Why a request is sent to its engine once more."""
OF_MODEL = ("model_namespace", "model")
"""The labels that name a Model, as the metrics of kube-state-metrics have them."""
_DURATIONS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_WAITS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_QUEUE_SECONDS = 600.0
"""The default of FLEXINFER_QUEUE_SECONDS."""


def extended(buckets: tuple[float, ...], longest: float) -> tuple[float, ...]:
    """Return the upper bounds of buckets up to the first one above the longest value, each further one twice the one before.

    What has waited as long as it may is a moment above its limit: it is in a bucket with a bound, as all else.
    """
    while buckets and buckets[-1] <= longest:
        buckets = (*buckets, 2 * buckets[-1])
    return buckets


class Metric(NamedTuple):
    """One metric: `kind` is gauge, counter or histogram, with the upper bounds of its buckets; `unit` is empty where it is a plain number."""

    name: str
    kind: str
    labels: tuple[str, ...]
    unit: str
    meaning: str
    buckets: tuple[float, ...] = ()


class Histogram:
    """How many values were in each bucket of a metric, and their sum; `longest` is the largest value that limits allow, if it is above those of the table."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, metric: Metric, longest: float = 0.0) -> None:
        self.bounds = extended(metric.buckets, longest)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value: in the first bucket whose upper bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def cumulative(self) -> Iterable[int]:
        """Return for each bucket how many values were not above its bound, as Prometheus has them; the last one is of all."""
        return accumulate(self.counts)


class Sample(NamedTuple):
    """A value of a metric, and those of its labels."""

    metric: Metric
    labels: Mapping[str, str]
    value: float | Histogram


Source: TypeAlias = Callable[[], Iterable[Sample]]
"""What returns the present samples of a component."""


def no_samples() -> Iterable[Sample]:
    """Return none: of a component that has only the metrics of all."""
    return ()


BUILD_INFO = Metric("flexinfer_build_info", "gauge", ("build",), "", "1, with the build that runs.")
READY = Metric(
    "flexinfer_ready",
    "gauge",
    ("component",),
    "",
    "1 while the component is ready, as /readyz has it, else 0: a standby is ready too.",
)
PROBLEM = Metric(
    "flexinfer_problem_seconds",
    "gauge",
    ("component", "cause"),
    "seconds",
    "How long the component has been kept from seeing or writing: by the API server (api), NATS (nats), a full or read-only stream (storage), "
    "or messages that it lacks (watermark). 0 without the problem.",
)
ERRORS = Metric(
    "flexinfer_unexpected_errors_total",
    "counter",
    ("component",),
    "",
    "Unexpected errors since the process started, each of which cost one object a decision or an effect: a defect, whose traceback is in the log.",
)
REQUESTS = Metric(
    "flexinfer_requests_total",
    "counter",
    (*OF_MODEL, "code"),
    "",
    "Requests for a Model that have ended, by HTTP status. 499: the client left before the end of its response. 502 also for a response that the "
    "engine cut off after its status was sent. A status that HTTP does not define is its class, such as 5xx.",
)
REQUEST_ERRORS = Metric(
    "flexinfer_request_errors_total",
    "counter",
    (*OF_MODEL, "error"),
    "",
    "Requests that the proxy itself answered with an error, by the `code` of its body, such as queue_full; upstream_disconnected: responses that the engine "
    "cut off. The labels of the Model are empty for requests that led to none, such as those with an unknown model or a wrong key.",
)
REQUEST_DURATION = Metric(
    "flexinfer_request_duration_seconds",
    "histogram",
    OF_MODEL,
    "seconds",
    "From the arrival of a request to the end of its response, waits included, however it ended.",
    extended(_DURATIONS, LONGEST_COLD_START_SECONDS + _QUEUE_SECONDS),
)
FIRST_TOKEN = Metric(
    "flexinfer_time_to_first_token_seconds",
    "histogram",
    OF_MODEL,
    "seconds",
    "From the arrival of a request to the first bytes of its response, waits included: of successful streams alone, since the first bytes of any "
    "other response are its last too.",
    extended(_DURATIONS, LONGEST_COLD_START_SECONDS + _QUEUE_SECONDS),
)
COLD_START_WAIT = Metric(
    "flexinfer_cold_start_wait_seconds",
    "histogram",
    OF_MODEL,
    "seconds",
    "How long a request was queued until its Model was ready, or it ended: of requests that had to wait for that.",
    extended(_WAITS, LONGEST_COLD_START_SECONDS),
)
SLOT_WAIT = Metric(
    "flexinfer_slot_wait_seconds",
    "histogram",
    OF_MODEL,
    "seconds",
    "How long a request was queued behind others of a Model that was ready: of requests that had to wait for that.",
    extended(_WAITS, _QUEUE_SECONDS),
)
IN_FLIGHT = Metric(
    "flexinfer_requests_in_flight",
    "gauge",
    OF_MODEL,
    "",
    "Requests that were forwarded to the engine and are not yet answered completely, and operations that such a request began.",
)
QUEUED = Metric(
    "flexinfer_requests_queued",
    "gauge",
    OF_MODEL,
    "",
    "Requests that wait for the Model or for a slot of it.",
)
COLD_STARTS = Metric(
    "flexinfer_cold_starts_requested_total",
    "counter",
    OF_MODEL,
    "",
    "How often a request began to wait for a Model that was not ready while no other did: each asks for a cold start. Each proxy counts its own.",
)
RETRIES = Metric(
    "flexinfer_request_retries_total",
    "counter",
    (*OF_MODEL, "cause"),
    "",
    "How often a request was sent to its engine once more: on a new connection after the engine closed an idle one (connection_closed), or after it "
    "refused one (connection_refused).",
)
METRICS = (
    BUILD_INFO,
    READY,
    PROBLEM,
    ERRORS,
    REQUESTS,
    REQUEST_ERRORS,
    REQUEST_DURATION,
    FIRST_TOKEN,
    COLD_START_WAIT,
    SLOT_WAIT,
    IN_FLIGHT,
    QUEUED,
    COLD_STARTS,
    RETRIES,
)
