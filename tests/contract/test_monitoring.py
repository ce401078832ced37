"""What the files and pages for Prometheus name exists: metrics of the table or of kube-state-metrics' file, labels, phases, ports."""

import re
from typing import Any

import pytest
import yaml

from flexinfer.api.labels import MODEL_LABEL
from flexinfer.api.phase import Phase
from flexinfer.launcher.manifests import ENGINE
from flexinfer.runtime.metrics import METRICS, OF_MODEL
from tests.definitions import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
STATE: Any = yaml.safe_load((FOLDER / "kube-state-metrics.yaml").read_text())
SCRAPED: Any = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
RULES: Any = yaml.safe_load((FOLDER / "rules.yaml").read_text())
PAGE = ROOT / "docs" / "how-to" / "prometheus.md"


SERIES = {
    f"{metric.name}{ending}": metric
    for metric in METRICS
    for ending in (("_bucket", "_sum", "_count") if metric.buckets else ("",))
}
"""Each series of a component by its name, which is the metric's but for a histogram."""


def rules() -> list[dict[str, Any]]:
    """Return the rules of all alerts."""
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def of_models() -> dict[str, Any]:
    """Return the metrics that kube-state-metrics makes, by name."""
    return {
        f"{resource['metricNamePrefix']}_{metric['name']}": metric["each"]
        for resource in STATE["spec"]["resources"]
        for metric in resource["metrics"]
    }


@pytest.mark.parametrize("text", [PAGE.read_text(), *(rule["expr"] for rule in rules())])
def test_each_metric_that_is_named_exists(text: str) -> None:
    """A rule about another one would never fire."""
    named = set(re.findall(r"\bflexinfer_[a-z_]+\b", text))
    assert named
    assert named <= set(SERIES) | {metric.name for metric in METRICS} | set(of_models())


def test_each_query_of_requests_is_on_the_page_with_labels_that_its_metrics_have() -> None:
    """One by another label would be empty, or one sum over all Models."""
    queries = [row.split(" | ", 1)[1].rstrip("` |").lstrip("`") for row in rows_of_queries()]
    for query in [*queries, *(rule["expr"] for rule in rules() if "flexinfer_request" in rule["expr"])]:
        named = re.findall(r"\bflexinfer_[a-z_]+\b", query)
        known = set.intersection(*({*SERIES[name].labels, "le"} for name in named))
        by = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
        matched = set(re.findall(r'(\w+)(?:=~|!=|=)"', query))
        assert by | matched <= known, query
        assert ("le" in by) == ("_bucket" in query) == ("histogram_quantile" in query), query
        counters = [name for name in named if SERIES[name].kind != "gauge"]
        assert query.count("[") == len(counters), query
    of_requests = {metric.name for metric in METRICS if set(OF_MODEL) <= set(metric.labels)}
    assert {
        SERIES[name].name for name in re.findall(r"\bflexinfer_[a-z_]+\b", " ".join(queries))
    } == of_requests


def rows_of_queries() -> list[str]:
    """Return the rows of the page's table of queries."""
    section = PAGE.read_text().partition("## Queries")[2].partition("## Alerts")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_the_phases_of_the_metric_are_those_of_a_model() -> None:
    """One that is missing would be no phase at all."""
    assert of_models()["flexinfer_model_phase"]["stateSet"]["list"] == list(Phase)


def test_each_alert_is_on_the_page() -> None:
    """With when it fires."""
    rows = re.findall(r"^\| `(FlexInfer\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [rule["alert"] for rule in rules()]


def test_engines_are_selected_by_the_labels_of_their_pods() -> None:
    """And named by the Model's label, in the spelling of the Kubernetes service discovery."""
    [engines] = [job for job in SCRAPED["scrape_configs"] if job["job_name"] == "flexinfer-engines"]
    [selector] = engines["kubernetes_sd_configs"][0]["selectors"]
    assert f"app.kubernetes.io/component={ENGINE}" in selector["label"]
    label = "__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", MODEL_LABEL)
    assert label in {name for rule in engines["relabel_configs"] for name in rule["source_labels"]}
