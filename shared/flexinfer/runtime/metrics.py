"""Metrics that every component exposes at /metrics of its health port: the table, and the Prometheus text format. Pure.

The reference page of metrics is generated from the table. Labels have values of fixed sets, never what a user wrote: a series that is made by a
request would be made without end.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

CAUSES = ("api", "nats", "storage", "watermark")
"""What can keep a component from seeing or writing."""


class Metric(NamedTuple):
    """One metric: `kind` is gauge or counter, `unit` is empty where it is a plain number."""

    name: str
    kind: str
    labels: tuple[str, ...]
    unit: str
    meaning: str


class Sample(NamedTuple):
    """A value of a metric, and those of its labels."""

    metric: Metric
    labels: Mapping[str, str]
    value: float


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
METRICS = (BUILD_INFO, READY, PROBLEM, ERRORS)


def rendered(samples: Iterable[Sample]) -> str:
    """Return samples in the Prometheus text format, by metric, in the order of the table."""
    by_metric: dict[Metric, list[Sample]] = {metric: [] for metric in METRICS}
    for sample in samples:
        by_metric[sample.metric].append(sample)
    return "".join(_section(metric, of) for metric, of in by_metric.items())


def _section(metric: Metric, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} {metric.kind}"]
    for sample in samples:
        labels = ",".join(f'{name}="{_escaped(sample.labels[name])}"' for name in metric.labels)
        lines.append(f"{metric.name}{{{labels}}} {sample.value:.3f}".replace(".000", ""))
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
