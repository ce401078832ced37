"""docs/explanation/exits.md says of every reason how it ends: each that a component may write is there once, and no other."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexinfer.api.conditions import CONDITIONS
from flexinfer.api.group_reasons import GroupReason
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.reasons import FACTS

PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/exits.md"
SECTIONS = {
    **{
        kind: {str(reason) for reason, facts in FACTS.items() if kind in facts.conditions}
        for kind in CONDITIONS
    },
    "SharedGroup": {str(reason) for reason in GroupReason},
    "GPULease": {str(reason) for reason in LeaseReason},
}


def rows(section: str) -> Iterator[tuple[str, str]]:
    """Yield each reason of a section with how it ends."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    for names, ends in re.findall(r"^\| (`.+?) \| (.+) \|$", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            yield name, ends


@pytest.mark.parametrize("section", SECTIONS)
def test_every_reason_has_an_end(section: str) -> None:
    """A reason that is added is a state that something must leave."""
    times = Counter(name for name, _ in rows(section))
    assert set(times) == SECTIONS[section]
    assert set(times.values()) == {1}


def test_no_section_is_of_something_else() -> None:
    """A section that was renamed would be empty."""
    assert set(re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)) == set(SECTIONS)
