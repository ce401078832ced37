"""Exposition: samples of metrics as the Prometheus text format has them. Pure."""

from collections.abc import Iterable, Iterator
from functools import cache

from flexinfer.runtime.metrics import METRICS, Histogram, Metric, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def pieces(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield samples in the text format, by metric, in the order of the table; a metric without any is left out.

    There is a piece for each sample, empty while they are sorted: a reader of many can do something else in between.
    """
    by_metric: dict[str, list[Sample]] = {metric.name: [] for metric in METRICS}
    for sample in samples:
        by_metric[sample.metric.name].append(sample)
        yield ""
    for metric in METRICS:
        yield from _section(metric, by_metric[metric.name])


def _section(metric: Metric, samples: list[Sample]) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {metric.name} {metric.meaning}\n# TYPE {metric.name} {metric.kind}\n"
    for sample in samples:
        labels = ",".join(f'{name}="{_escaped(sample.labels[name])}"' for name in metric.labels)
        if isinstance(sample.value, Histogram):
            yield _of_histogram(metric, labels, sample.value)
        else:
            yield f"{metric.name}{{{labels}}} {_number(sample.value)}\n"


def _of_histogram(metric: Metric, labels: str, histogram: Histogram) -> str:
    """Return a histogram's buckets, its sum and its count, which is its last bucket's."""
    lines, count = [], 0
    for ending, count in zip(_bucket_endings(histogram.bounds), histogram.cumulative(), strict=True):
        lines.append(f"{metric.name}_bucket{{{labels}{ending}{count}\n")
    lines.append(f"{metric.name}_sum{{{labels}}} {histogram.sum:.6f}\n")
    lines.append(f"{metric.name}_count{{{labels}}} {count}\n")
    return "".join(lines)


@cache
def _bucket_endings(buckets: tuple[float, ...]) -> tuple[str, ...]:
    """Return what follows the labels of each bucket."""
    return (*(f',le="{bound!r}"}} ' for bound in buckets), ',le="+Inf"} ')


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}".replace(".000", "")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
