"""The house as DESIGN 2 draws it: folders, import-linter and console scripts agree."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("shared", "services", "local")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages(root: str) -> set[str]:
    """Return the packages of a source root."""
    return {p.name for p in (ROOT / root / "flexinfer").iterdir() if (p / "__init__.py").exists()}


def test_import_linter_knows_every_package() -> None:
    """A new folder must say where it stands in the arrow of imports."""
    known = set(PROJECT["tool"]["importlinter"]["root_packages"])
    ours = {f"flexinfer.{name}" for root in ROOTS for name in packages(root)}
    assert known == ours | {"localkube"}


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
    """The project speaks of itself alone."""
    words = ["/wo" + "rk/", "/ro" + "ot/", "files.python" + "hosted", "pypi" + ".org"]
    for path in ROOT.rglob("*"):
        inside = path.relative_to(ROOT).parts
        if inside[0].startswith(".") and inside[0] != ".ci":
            continue
        if "__pycache__" in inside or not path.is_file() or path.suffix in (".pyc", ".gguf"):
            continue
        text = path.read_text(errors="ignore")
        assert not [w for w in words if w in text], path
