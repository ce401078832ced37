"""Metrics in the Prometheus text format: what a scraper reads is what was counted."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.durations import LONGEST_COLD_START_SECONDS
from flexinfer.runtime import metrics
from flexinfer.runtime.exposition import pieces
from flexinfer.runtime.health import Health, served
from flexinfer.runtime.metrics import METRICS, OF_MODEL, Histogram, Sample
from flexinfer.runtime.readiness import Readiness
from flexinfer.runtime.settings import Settings
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


@pytest.mark.parametrize("seconds", [0.0, 600.0, 3600.0, 86_400.0])
def test_every_wait_that_a_limit_allows_is_below_a_bound(seconds: float) -> None:
    """Also one that has just passed it: a quantile is then not that of the last bound, however long the others waited."""
    histogram = Histogram(metrics.SLOT_WAIT, seconds)
    histogram.observe(seconds + 0.01)
    assert histogram.counts[-1] == 0
    assert histogram.bounds[: len(metrics.SLOT_WAIT.buckets)] == metrics.SLOT_WAIT.buckets
    scrape = scraped(Sample(metrics.SLOT_WAIT, LABELS, histogram))
    name = f"{metrics.SLOT_WAIT.name}_bucket"
    assert scrape.value(name, **LABELS, le=str(histogram.bounds[-1])) == 1
    assert histogram.bounds[-1] <= max(1200.0, 2 * seconds)


def test_the_buckets_of_the_table_are_those_of_the_default_limits() -> None:
    """The reference shows them; the CRD has the limit of a cold start."""
    queued, started = Settings().queue_seconds, LONGEST_COLD_START_SECONDS
    for metric, longest in (
        (metrics.SLOT_WAIT, queued),
        (metrics.COLD_START_WAIT, started),
        (metrics.REQUEST_DURATION, started + queued),
        (metrics.FIRST_TOKEN, started + queued),
    ):
        assert Histogram(metric, longest).bounds == metric.buckets
        assert metric.buckets[-2] <= longest < metric.buckets[-1]
    rule = f"duration(self) <= duration('{started / 3600:g}h')"
    assert rule in (Path(__file__).parents[3] / "crds" / "models.yaml").read_text()


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
