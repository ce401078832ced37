"""The glossary names code that exists: each name of its third column is in the source."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for root in ("shared", "services", "local", "crds")
    for path in (ROOT / root).rglob("*")
    if path.suffix in {".py", ".yaml"}
]
TEXT = "\n".join(path.read_text() for path in SOURCES)
NAMES = re.findall(
    r"`([^`]+)`",
    "\n".join(
        line.rsplit("|", 2)[1]
        for line in (ROOT / "docs/reference/glossary.md").read_text().splitlines()
        if line.startswith("| **")
    ),
)


def exists(name: str) -> bool:
    """Whether a name of the glossary is in the source: a file or folder, a module and what it defines, or a word of the code."""
    if "/" in name and "flexinfer.ai/" not in name:
        return any(name in path.as_posix() for path in SOURCES) or (ROOT / name).exists()
    if name.startswith(("flexinfer.", "localkube.")) and "flexinfer.ai/" not in name:
        parts = name.split(".")
        *package, last = parts
        return any(
            path.as_posix().endswith(f"/{'/'.join(parts)}.py")
            or f"/{'/'.join(parts)}/" in path.as_posix()
            or (
                f"/{'/'.join(package)}" in path.as_posix()
                and re.search(rf"\b(class|def) {last}\b|^{last}\b", path.read_text(), re.MULTILINE)
            )
            for path in SOURCES
        )
    word = name.rstrip("*").rsplit(".", 1)[-1]
    return re.search(rf"\b{re.escape(word)}", TEXT) is not None


@pytest.mark.parametrize("name", sorted({name for name in NAMES if "<" not in name}))
def test_each_name_of_the_glossary_stands_in_the_source(name: str) -> None:
    """A term is looked up in the code by the name that the glossary gives."""
    assert exists(name)
