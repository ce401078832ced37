"""The reference pages say what the code says, and names are spelled in one place."""

import ast
import re
import runpy
from pathlib import Path

import pytest

from flexinfer import backends
from flexinfer.backends.options import DOWNLOAD_KEYS
from flexinfer.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [p for root in ("shared", "services") for p in (ROOT / root).rglob("*.py")]

WRITERS = [p for p in PYTHON if {"services", "backends", "sources"} & set(p.parts)]


def generated() -> dict[Path, str]:
    """Return the generated files of docs/ and crds/, as their generators make them now."""
    files: dict[Path, str] = {}
    for generator, function in (("docs/generate", "pages"), ("deploy/crd.py", "files")):
        files |= runpy.run_path(str(ROOT / generator))[function]()
    return files


def test_generated_files_are_up_to_date() -> None:
    """Those of deploy/ have a test of their own, in test_manifests."""
    stale = [str(path.relative_to(ROOT)) for path, text in generated().items() if path.read_text() != text]
    assert stale == [], f"stale: {', '.join(stale)}: run `make generate`"


def fields_of_settings() -> dict[str, str]:
    """Return the text below each field of Settings, as the source has it; empty where a field has none."""
    source = (ROOT / "shared" / "flexinfer" / "runtime" / "settings.py").read_text()
    body = next(
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    texts: dict[str, str] = {}
    field = ""
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            field = node.target.id
            texts[field] = ""
        elif field and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts[field] = " ".join(str(node.value.value).split())
    return texts


def defaults_of_settings() -> dict[str, object]:
    """Return the default of each field of Settings whose source is a literal."""
    source = (ROOT / "shared" / "flexinfer" / "runtime" / "settings.py").read_text()
    body = next(
        n.body for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Settings"
    )
    return {
        node.target.id: node.value.value
        for node in body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def test_every_setting_has_its_default_on_the_page() -> None:
    """A number too; `empty` is an empty text and nothing else."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    literals = defaults_of_settings()
    assert {type(value) for value in literals.values()} >= {str, int, float}
    for field, value in literals.items():
        default = "empty" if value == "" else f"`{value}`"
        assert f"| `FLEXINFER_{field.upper()}` | {default} |" in page, field


def test_every_setting_has_its_meaning_on_the_page() -> None:
    """The page is compared with the source of Settings, not with its generator."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    texts = fields_of_settings()
    assert set(texts) == set(Settings.__struct_fields__)
    assert [field for field, text in texts.items() if not text] == [], "a setting has no text below its field"
    for field, text in texts.items():
        variable = (
            "FLEXINFER_IMAGE_<BACKEND>[_<VENDOR>]" if field == "images" else f"FLEXINFER_{field.upper()}"
        )
        row = next((line for line in page.splitlines() if line.startswith(f"| `{variable}` |")), "")
        assert row.endswith(f"| {text} |"), f"{variable} has not its meaning on the page: run `make generate`"


@pytest.mark.parametrize("name", backends.names())
def test_the_page_of_backends_has_all_that_a_backend_says(name: str) -> None:
    """Name, aliases, images, overrides, GPUs that it cannot run on, and every key with its meaning."""
    page = (ROOT / "docs" / "reference" / "backends.md").read_text()
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    backend = backends.find(name)
    assert backend is not None
    rules = (*backend.unsupported_architectures, *backend.experimental_architectures)
    gpus = [text for rule in rules for text in (rule.prefix, rule.reason, rule.source, rule.when)]
    flags = [text for key in backend.config.values() for text in (key.flag, key.off, key.becomes) if text]
    variables = [f"FLEXINFER_IMAGE_{key.upper()}" for key in backend.image_keys[1:]]
    docs = [key.doc for key in backend.config.values()]
    expected = [*backend.aliases, *backend.images.values(), *gpus, *flags, *variables, *docs, *backend.config]
    assert [text for text in expected if text not in section] == []


@pytest.mark.parametrize("name", backends.names())
def test_every_key_of_a_backend_says_what_it_means_and_becomes(name: str) -> None:
    """One short sentence; only what the download reads becomes nothing on the engine's command line."""
    backend = backends.find(name)
    assert backend is not None
    for key_name, key in backend.config.items():
        assert key.doc.endswith(".") and len(key.doc) <= 110, key_name
        assert key.flag or key.off or key.becomes or key_name in DOWNLOAD_KEYS, key_name


def test_the_api_group_is_spelled_in_one_module() -> None:
    """Everything else imports it."""
    spelled = [
        str(path.relative_to(ROOT))
        for path in PYTHON
        if re.search(r"[\"']ai\.flexinfer", path.read_text()) and path.name != "groupversion.py"
    ]
    assert spelled == []


def test_every_page_of_the_docs_can_be_reached_from_its_index() -> None:
    """A page without a link has no reader."""
    index = (ROOT / "docs" / "README.md").read_text()
    adrs = (ROOT / "docs" / "adr" / "README.md").read_text()
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT / "docs")
        if path.name == "README.md":
            continue
        assert (path.name in adrs) if name.parts[0] == "adr" else (str(name) in index), name
