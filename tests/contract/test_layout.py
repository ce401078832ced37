"""The layout of the tree: folders, import-linter and console scripts agree; modules and functions are short."""

import ast
import os
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("shared", "services", "local")
LONGEST_MODULE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 300, 40, 7
"""Lines."""
MOST_ANY = 40
"""Outside local/, whose objects are those of any CRD."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages(root: str) -> set[str]:
    """Return the packages of a source root."""
    return {p.name for p in (ROOT / root / "flexinfer").iterdir() if (p / "__init__.py").exists()}


def test_import_linter_knows_every_package() -> None:
    """A new folder must say where it is in the arrow of imports."""
    known = set(PROJECT["tool"]["importlinter"]["root_packages"])
    ours = {f"flexinfer.{name}" for root in ROOTS for name in packages(root)}
    assert known == ours | {"localkube"}


def test_localkube_is_kept_apart_from_every_package() -> None:
    """One that is added later too."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (contract,) = [c for c in contracts if c.get("source_modules") == ["localkube"]]
    assert contract["type"] == "forbidden"
    ours = {f"flexinfer.{name}" for root in ROOTS for name in packages(root)}
    assert set(contract["forbidden_modules"]) == ours


def test_the_namespace_has_no_init() -> None:
    """Three source roots of one package: PEP 420."""
    for root in ROOTS:
        assert not (ROOT / root / "flexinfer" / "__init__.py").exists()


def test_every_service_has_a_module_to_run_and_a_script() -> None:
    """`python -m flexinfer.placer` in an image, `flexinfer-placer` on a shell."""
    scripts = PROJECT["project"]["scripts"]
    for name in packages("services") - {"cli"}:
        assert scripts[f"flexinfer-{name}"] == f"flexinfer.{name}.__main__:boot"
        assert (ROOT / "services" / "flexinfer" / name / "__main__.py").exists()


def test_every_deciding_service_is_decide_and_perform() -> None:
    """The same two words in each."""
    for name in ("placer", "prefetcher", "launcher", "reaper", "arbiter"):
        folder = ROOT / "services" / "flexinfer" / name
        assert (folder / "decide.py").exists(), name


def test_no_file_holds_a_path_of_a_machine_or_the_host_of_a_registry() -> None:
    """The project describes itself alone."""
    words = ["/wo" + "rk/", "/ro" + "ot/", "files.python" + "hosted", "pypi" + ".org"]
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [n for n in folders if n == ".ci" or not n.startswith((".", "__pycache__"))]
        for path in (Path(folder) / n for n in names if not n.startswith(".")):
            if path.is_file() and path.suffix not in (".pyc", ".gguf", ".whl"):
                text = path.read_text(errors="ignore")
                assert not [w for w in words if w in text], path


def modules(*roots: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of each module below some source roots."""
    for root in roots:
        for path in sorted((ROOT / root).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def test_no_module_is_too_long() -> None:
    """What does not fit has two subjects."""
    lengths = {path: text.count("\n") for path, text in modules(*ROOTS)}
    assert not {path: length for path, length in lengths.items() if length > LONGEST_MODULE}


def test_no_function_is_too_long_and_most_are_short() -> None:
    """Docstring included."""
    lengths = {
        f"{path}:{node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, text in modules(*ROOTS)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {place: length for place, length in lengths.items() if length > LONGEST_FUNCTION}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def test_any_is_rare_in_the_product() -> None:
    """`object` says the same and makes a reader check what it is."""
    places = [
        f"{path}:{node.lineno}"
        for path, text in modules("shared", "services")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert len(places) <= MOST_ANY, places
