"""The reference pages say what the code says, and names are spelled in one place."""

import importlib.util
import re
from pathlib import Path

import pytest

from flexinfer.api import conditions, reasons
from flexinfer.api.reasons import Reason
from flexinfer.api.services import OWNERS, STATUS_FIELDS

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [p for root in ("shared", "services") for p in (ROOT / root).rglob("*.py")]

WRITERS = [p for p in PYTHON if {"services", "backends", "sources"} & set(p.parts)]


def pages() -> dict[Path, str]:
    """Return the generated pages by running the generator's function."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: dict[Path, str] = module.pages()
    return made


@pytest.mark.parametrize("path", ["conditions.md", "subjects.md", "settings.md", "model.md"])
def test_a_generated_page_is_up_to_date(path: str) -> None:
    """`make fix` writes them anew."""
    page = ROOT / "docs" / "reference" / path
    assert pages()[page] == page.read_text()


def test_every_reason_has_its_row() -> None:
    """Meaning for all, a remedy for each that a user can mend; a final reason is a warning too."""
    assert set(reasons.FACTS) == set(Reason)
    for reason, facts in reasons.FACTS.items():
        assert facts.meaning.endswith("."), reason
        assert facts.conditions, reason
        assert facts.remedy or not (facts.warning or facts.final or facts.rejects_requests), reason
        assert facts.warning or not facts.final, reason


def test_every_reason_is_written_by_a_component_and_none_is_built_from_strings() -> None:
    """A reason that nothing writes is a promise that nobody keeps; one that is built cannot be found by its name."""
    written = set(re.findall(r"\bReason\.([A-Z_]+)", "\n".join(p.read_text() for p in WRITERS)))
    written |= {reason.name for reason in reasons.NOT_YET.values()}
    assert set(Reason.__members__) - written == set()


def test_the_api_group_is_spelled_in_one_module() -> None:
    """Everything else imports it."""
    spelled = [
        str(path.relative_to(ROOT))
        for path in PYTHON
        if re.search(r"[\"']ai\.flexinfer", path.read_text()) and path.name != "groupversion.py"
    ]
    assert spelled == []


def test_every_condition_and_every_status_field_has_one_owner() -> None:
    """DESIGN 5: one writer per fact."""
    assert set(OWNERS) == set(conditions.CONDITIONS)
    fields = [field for owned in STATUS_FIELDS.values() for field in owned]
    assert len(fields) == len(set(fields))
    assert set(STATUS_FIELDS) == set(OWNERS.values())


def test_every_page_of_the_docs_can_be_reached_from_its_index() -> None:
    """A page that nobody links is a page that nobody reads."""
    index = (ROOT / "docs" / "README.md").read_text()
    adrs = (ROOT / "docs" / "adr" / "README.md").read_text()
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT / "docs")
        if path.name == "README.md":
            continue
        assert (path.name in adrs) if name.parts[0] == "adr" else (str(name) in index), name
