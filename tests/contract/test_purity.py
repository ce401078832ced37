"""A module that calls itself pure has no clock, I/O, log or randomness, directly or through others.

Enforced, and seen to be enforced.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("shared", "services")
COPIED = (*ROOTS, "local")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PURE = next(c for c in CONTRACTS if c["name"].startswith("what calls itself pure"))


def modules() -> dict[str, Path]:
    """Return every module of the source roots by its name."""
    names = {}
    for root in ROOTS:
        for path in sorted((ROOT / root).rglob("*.py")):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def calls_itself_pure(path: Path) -> bool:
    """Return whether a module's docstring says so."""
    return bool(re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or ""))


def in_contract(module: str) -> bool:
    """Return whether the contract names a module, or a package that holds it."""
    return any(module == source or module.startswith(f"{source}.") for source in PURE["source_modules"])


def test_every_module_that_calls_itself_pure_is_in_the_contract() -> None:
    """The word in a docstring is a promise."""
    pure = [name for name, path in modules().items() if calls_itself_pure(path)]
    assert pure
    assert not [name for name in pure if not in_contract(name)]


def test_every_module_in_the_contract_exists() -> None:
    """A renamed module takes its promise with it."""
    assert not set(PURE["source_modules"]) - set(modules())


def test_the_contract_follows_imports_of_imports() -> None:
    """An exception, or only direct imports, would make the promise empty."""
    assert not PURE.get("allow_indirect_imports")
    assert not PURE.get("ignore_imports")


def linted(folder: Path, path: str, text: str) -> str:
    """Return what import-linter says of a copy of the sources in which a file has this text appended."""
    for root in COPIED:
        shutil.copytree(ROOT / root, folder / root, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    with (folder / path).open("a") as file:
        file.write(text)
    search = os.pathsep.join(str(folder / root) for root in COPIED)
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    arguments = ["--no-cache", "--config", str(folder / "pyproject.toml")]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": search, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("services/flexinfer/placer/fit.py", "", ""),
        (
            "services/flexinfer/placer/fit.py",
            "\nimport time\n",
            "flexinfer.placer.fit is not allowed to import time",
        ),
        (
            "shared/flexinfer/state/actions.py",
            "\nfrom flexinfer.placer import __main__\n",
            "flexinfer.state is not allowed to import asyncio",
        ),
    ],
    ids=["as it is", "a clock", "through others"],
)
def test_a_planted_import_breaks_the_contract(tmp_path: Path, path: str, text: str, sentence: str) -> None:
    """Seen to fail, so that a contract that is kept says something."""
    output = linted(tmp_path, path, text)
    if text:
        assert sentence in output
    else:
        assert "0 broken" in output, output


@pytest.mark.parametrize(
    "text",
    [
        "import time\n\nNOW = time.monotonic()\n",
        "from datetime import UTC, datetime\n\nNOW = datetime.now(UTC)\n",
        "import random\n",
    ],
    ids=["monotonic", "now", "random"],
)
def test_a_planted_clock_is_refused_by_ruff(text: str) -> None:
    """Also in modules that do not call themselves pure: time and chance come from the Runtime."""
    arguments = ["--stdin-filename", "services/flexinfer/launcher/manifests.py", "--select", "TID251", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *arguments],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "TID251" in done.stdout, done.stdout + done.stderr
