"""The planted faults: patches with a head that says what each plants, which law it breaks, and which unit tests concern it."""

import subprocess
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
FIELDS = ("Plants", "Breaks", "Tests")


class Patch(NamedTuple):
    """One planted fault; `tests` are paths of unit tests."""

    name: str
    path: Path
    plants: str
    breaks: str
    tests: list[str]


class PatchError(Exception):
    """A patch that lacks a field of its head, or does not apply to the tree."""


def patches(names: list[str] | None = None) -> list[Patch]:
    """Return the patches of these names, by default all. Raises PatchError."""
    found = [read(path) for path in sorted(HERE.glob("*.patch"))]
    unknown = set(names or ()) - {patch.name for patch in found}
    if unknown:
        raise PatchError(f"no patch of this name: {', '.join(sorted(unknown))}")
    return [patch for patch in found if not names or patch.name in names]


def read(path: Path) -> Patch:
    """Read a patch. Raises PatchError if its head is not complete."""
    head, _, _ = path.read_text().partition("diff --git")
    lines = [line.partition(": ") for line in head.splitlines()]
    values = {name: value.strip() for name, _, value in lines}
    missing = [field for field in FIELDS if not values.get(field)]
    if missing:
        raise PatchError(f"{path.name}: its head has no line `{missing[0]}: ...`")
    return Patch(path.stem, path, values["Plants"], values["Breaks"], values["Tests"].split())


def apply(patch: Patch, tree: Path, *, check: bool = False) -> None:
    """Apply a patch to a tree, or only see whether it applies. Raises PatchError."""
    command = ["git", "apply", *(["--check"] if check else []), str(patch.path)]
    result = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    if result.returncode:
        raise PatchError(f"{patch.name} does not apply, plant it again: {result.stderr.strip()}")
