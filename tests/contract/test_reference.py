"""The reference pages say what the code says, and names are spelled in one place."""

import importlib.util
import re
from pathlib import Path

import pytest

from flexinfer.api import conditions, reasons
from flexinfer.api.services import OWNERS, STATUS_FIELDS

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [p for root in ("shared", "services") for p in (ROOT / root).rglob("*.py")]


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


def test_every_reason_has_a_sentence() -> None:
    """No reason is without its meaning, and no meaning without its reason."""
    named = {value for name, value in vars(keys).items() if name.startswith("R_")}
    assert named == set(reasons.REASONS)
    assert named >= reasons.FINAL_REASONS
    assert all(text.endswith(".") for text in reasons.REASONS.values())


def test_the_api_group_is_spelled_in_one_module() -> None:
    """Everything else imports it."""
    spelled = [
        str(path.relative_to(ROOT))
        for path in PYTHON
        if re.search(r"[\"']ai\.flexinfer", path.read_text()) and path.name != "keys.py"
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
