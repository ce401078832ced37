"""The page of labels and annotations names every name below flexinfer.ai that the product writes or reads."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "labels-and-annotations.md").read_text()
NAME = re.compile(r"[\"'](?:[a-z]+\.)?flexinfer\.ai/([a-z][a-z.-]*)")
SOURCES = [
    *(path for root in ("shared", "services", "local") for path in (ROOT / root).rglob("*.py")),
    *(ROOT / "deploy" / "base").rglob("*.yaml"),
]


def names() -> set[str]:
    """Return the names in string literals of the sources, without their prefix."""
    return {name for path in SOURCES for name in NAME.findall(path.read_text())}


def test_every_name_is_on_the_page() -> None:
    """A label that a user meets and cannot look up is a riddle."""
    assert {"model", "running", "file-sources"} <= names()
    assert sorted(name for name in names() if f"flexinfer.ai/{name}" not in PAGE) == []
