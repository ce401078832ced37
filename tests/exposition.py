"""A strict reader of the Prometheus text format: what it takes, every scraper does."""

import re
from typing import NamedTuple, TypeAlias

_NAME = r"[a-zA-Z_][a-zA-Z0-9_]*"
_LABEL = rf'({_NAME})="((?:[^"\\\n]|\\["\\n])*)"'
_LINE = re.compile(rf"({_NAME})(?:\{{((?:{_LABEL}(?:,(?!\}}))?)*)\}})? (-?\d+(?:\.\d+)?(?:e[+-]\d+)?)")
_ENDINGS = ("_bucket", "_sum", "_count")
Labels: TypeAlias = frozenset[tuple[str, str]]


class Scrape(NamedTuple):
    """What was read: the kind of each metric, and the value of each series."""

    kinds: dict[str, str]
    series: dict[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a series; None if there is none."""
        return self.series.get((name, frozenset(labels.items())))

    def values(self, label: str) -> set[str]:
        """Return every value that a label has in any series."""
        return {value for _, labels in self.series for name, value in labels if name == label}


def read(text: str) -> Scrape:
    """Return what a text says; raises AssertionError for what is not the format, is said twice, or is no histogram."""
    assert text == "" or text.endswith("\n")
    kinds: dict[str, str] = {}
    series: dict[tuple[str, Labels], float] = {}
    helped, current = "", ""
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert helped not in kinds
            assert "\\" not in line
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current == helped
            assert kind in ("counter", "gauge", "histogram")
            kinds[current] = kind
        else:
            name, labels, value = _series(line)
            of = name.removesuffix(next(e for e in (*_ENDINGS, "") if name.endswith(e)))
            assert current in ((of,) if kinds[current] == "histogram" else (name,)), line
            assert (name, labels) not in series, line
            series[name, labels] = value
    for name, kind in kinds.items():
        if kind == "histogram":
            _check_histogram(name, series)
    return Scrape(kinds, series)


def _series(line: str) -> tuple[str, Labels, float]:
    match = _LINE.fullmatch(line)
    assert match, line
    pairs = [(m[1], m[2]) for m in re.finditer(_LABEL, match[2] or "")]
    assert len(dict(pairs)) == len(pairs), line
    return match[1], frozenset(pairs), float(match[5])


def _check_histogram(name: str, series: dict[tuple[str, Labels], float]) -> None:
    """Raise AssertionError unless each one's buckets only grow, and the last one is its count."""
    counts = {labels: value for (of, labels), value in series.items() if of == f"{name}_count"}
    assert counts
    for labels, count in counts.items():
        buckets = sorted(
            (float(dict(own)["le"]), value)
            for (of, own), value in series.items()
            if of == f"{name}_bucket" and {pair for pair in own if pair[0] != "le"} == labels
        )
        values = [value for _, value in buckets]
        assert values == sorted(values)
        assert buckets[-1] == (float("inf"), count)
        assert (f"{name}_sum", labels) in series
