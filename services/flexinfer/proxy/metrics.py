"""Metrics of the proxy: what it has counted about the requests of its Models, as samples of the table.

A Model has them while it exists: those that show its first request from the beginning, since Prometheus sees only what grows between two scrapes,
and the histograms from its first request through this proxy on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus

from flexinfer.proxy.traffic import CLIENT_LEFT, Traffic
from flexinfer.proxy.view import Route
from flexinfer.runtime import metrics
from flexinfer.runtime.metrics import OF_MODEL, Sample

_NO_MODEL = dict.fromkeys(OF_MODEL, "")
_NO_TRAFFIC = Traffic()
_DEFINED = frozenset({*map(int, HTTPStatus), CLIENT_LEFT})


def samples(routes: Iterable[Route], unrouted: Mapping[str, int]) -> Iterator[Sample]:
    """Yield the samples of routes; `unrouted` are the errors of requests that led to no Model, by their code.

    Requests may be counted between two samples, so what grows is copied first.
    """
    for error, count in tuple(unrouted.items()):
        yield Sample(metrics.REQUEST_ERRORS, _NO_MODEL | {"error": error}, count)
    for route in routes:
        meta, traffic = route.model.metadata, route.traffic or _NO_TRAFFIC
        labels = dict(zip(OF_MODEL, (meta.namespace, meta.name), strict=True))
        yield Sample(metrics.IN_FLIGHT, labels, route.in_flight)
        yield Sample(metrics.QUEUED, labels, route.breaker.queued)
        yield Sample(metrics.COLD_STARTS, labels, traffic.cold_starts)
        for code, count in _by_code(traffic.codes).items():
            yield Sample(metrics.REQUESTS, {**labels, "code": code}, count)
        if route.traffic is not None:
            yield from _of_traffic(route.traffic, labels)


def _of_traffic(traffic: Traffic, labels: Mapping[str, str]) -> Iterator[Sample]:
    """Yield what a Model has only once it had a request."""
    for error, count in tuple(traffic.errors.items()):
        yield Sample(metrics.REQUEST_ERRORS, {**labels, "error": error}, count)
    for cause in metrics.RETRY_CAUSES:
        yield Sample(metrics.RETRIES, {**labels, "cause": cause}, traffic.retries[cause])
    yield Sample(metrics.REQUEST_DURATION, labels, traffic.durations)
    yield Sample(metrics.FIRST_TOKEN, labels, traffic.first_tokens)
    yield Sample(metrics.COLD_START_WAIT, labels, traffic.cold_start_waits)
    yield Sample(metrics.SLOT_WAIT, labels, traffic.slot_waits)


def _by_code(codes: Mapping[int, int]) -> Counter[str]:
    """Return the counts by status; an engine may send any number, so that one which HTTP does not define is counted by its class."""
    counts = Counter({"200": 0})
    for code, count in codes.items():
        counts[str(code) if code in _DEFINED else f"{code // 100}xx"] += count
    return counts
