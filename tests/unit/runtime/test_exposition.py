"""Metrics in the Prometheus text format: what a scraper reads is what was counted."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.runtime import metrics
from flexinfer.runtime.exposition import pieces
from flexinfer.runtime.health import Health, served
from flexinfer.runtime.metrics import METRICS, OF_MODEL, Histogram, Sample
from flexinfer.runtime.readiness import Readiness
from tests.exposition import Scrape, read

LABELS = dict(zip(OF_MODEL, ("default", "llama"), strict=True))
HISTOGRAMS = [metric for metric in METRICS if metric.kind == "histogram"]


def scraped(*samples: Sample) -> Scrape:
    """Return what a scraper reads of samples."""
    return read("".join(pieces(samples)))


@given(st.lists(st.floats(0, 2000) | st.sampled_from(metrics.REQUEST_DURATION.buckets)))
def test_a_value_is_in_every_bucket_whose_bound_it_does_not_exceed(values: list[float]) -> None:
    """Also one that is a bound itself, and one above them all."""
    histogram = Histogram(metrics.REQUEST_DURATION)
    for value in values:
        histogram.observe(value)
    scrape = scraped(Sample(metrics.REQUEST_DURATION, LABELS, histogram))
    name = metrics.REQUEST_DURATION.name
    for bound in metrics.REQUEST_DURATION.buckets:
        assert scrape.value(f"{name}_bucket", **LABELS, le=str(bound)) == sum(v <= bound for v in values)
    assert scrape.value(f"{name}_bucket", **LABELS, le="+Inf") == histogram.count == len(values)
    assert scrape.value(f"{name}_count", **LABELS) == len(values)
    assert scrape.value(f"{name}_sum", **LABELS) == pytest.approx(sum(values), abs=1e-6)


def test_metrics_come_by_the_table_whatever_the_order_of_samples() -> None:
    """A scraper wants all series of a metric together; one without any is not announced."""
    names = ("flexinfer_build_info", "flexinfer_requests_queued")
    scrape = scraped(
        Sample(metrics.QUEUED, LABELS, 1),
        Sample(metrics.BUILD_INFO, {"build": "b"}, 1),
        Sample(metrics.QUEUED, LABELS | {"model": "other"}, 2),
    )
    assert tuple(scrape.kinds) == names
    assert scrape.value(names[1], **LABELS) == 1
    assert scrape.value(names[1], model_namespace="default", model="other") == 2


@given(st.text(st.characters(codec="utf-8") | st.sampled_from('"\\\n')))
def test_any_label_is_read_back(value: str) -> None:
    """The build is the only one that is free text."""
    scrape = scraped(Sample(metrics.BUILD_INFO, {"build": value}, 1))
    [label] = scrape.values("build")
    assert re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label) == value


@pytest.mark.parametrize("value", [0, 3, 10**15, 0.0, 1.0, 12.5, 0.001])
def test_numbers_are_exact(value: float) -> None:
    """A counter of any size, and a gauge to a thousandth."""
    assert scraped(Sample(metrics.QUEUED, LABELS, value)).value(metrics.QUEUED.name, **LABELS) == value


def test_histograms_have_growing_buckets_and_no_other_metric_has_any() -> None:
    """And no name that would be read as a part of one."""
    assert HISTOGRAMS
    for metric in METRICS:
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert not metric.name.endswith(("_bucket", "_sum", "_count"))


async def test_a_component_adds_its_own_metrics_to_those_of_all() -> None:
    """Served with the version of the format, to a client that sends any query."""
    readiness = Readiness("proxy", lambda: 0.0)
    readiness.expose(lambda: [Sample(metrics.QUEUED, LABELS | {"model": f"m{n}"}, n) for n in range(500)])
    async with served(Health("b", [readiness, Readiness("placer", lambda: 0.0)]), "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics?x=1 HTTP/1.1\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    scrape = read(body.decode())
    assert scrape.values("component") == {"proxy", "placer"}
    assert scrape.value(metrics.QUEUED.name, model_namespace="default", model="m499") == 499
