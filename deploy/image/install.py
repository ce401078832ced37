"""Install the dependencies of an image, inside an image build: `python3 install.py --venv DIR ...`.

Runs on any Python 3.11 with the standard library alone: a Debian without pip or ensurepip runs pip from its wheel. With wheels beside it
nothing uses the network. The result depends only on the inputs: byte code by hash, no caches, no install times.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

WHEELS, INPUTS = Path("/wheels"), Path("/build")
_UNUSED = ("tests", "include")
_VARYING = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Files of a package's metadata about the installation: not read at run time."""


def requirements(extras: list[str]) -> list[str]:
    """Return our own dependencies and those of some extras."""
    project = tomllib.loads((INPUTS / "pyproject.toml").read_text())["project"]
    more = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in extras for one in more[extra])]


def pip() -> tuple[list[str], dict[str, str]]:
    """Return the command that is pip, and the environment it needs."""
    wheels = sorted(WHEELS.glob("pip-*.whl"))
    path = {"PYTHONPATH": str(wheels[-1])} if wheels else {}
    return [sys.executable, "-m", "pip"], os.environ | path


def install(folder: Path, wanted: list[str], added: Path | None) -> None:
    """Install into the virtual environment; with `added`, put what it lacks into a separate tree."""
    command, environment = pip()
    source = ["--no-index", "--find-links", str(WHEELS)] if any(WHEELS.glob("*.whl")) else []
    place = ["--prefix", str(added)] if added else []
    subprocess.run(
        [
            *command,
            *("--python", str(folder / "bin" / "python"), "--disable-pip-version-check", "--no-cache-dir"),
            *("install", "--quiet", "--no-compile", "--prefer-binary"),
            *("--constraint", str(INPUTS / "constraints.txt"), *source, *place, *wanted),
        ],
        env=environment,
        check=True,
    )


def slim(folder: Path) -> None:
    """Remove what no service reads, and compile the rest reproducibly."""
    for packages in folder.glob("lib/python3*/site-packages"):
        for name in _UNUSED:
            for path in packages.glob(f"*/{name}"):
                shutil.rmtree(path, ignore_errors=True)
        for name in _VARYING:
            for path in packages.glob(f"*.dist-info/{name}"):
                path.unlink()
        # fmt: off
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(packages)],
            check=False,  # a package may contain files for a newer Python
        )
        # fmt: on


def main() -> None:
    """Install as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument(
        "--extra", action="append", default=[], help="our dependencies with those of this extra"
    )
    parser.add_argument("--package", help="this package alone, as constraints.txt pins it")
    parser.add_argument(
        "--added", type=Path, help="where what the environment lacks goes, instead of into it"
    )
    given = parser.parse_args()
    if given.package and not re.search(
        rf"^{given.package}==", (INPUTS / "constraints.txt").read_text(), re.MULTILINE
    ):
        sys.exit(f"{given.package} is not in constraints.txt")
    if not given.venv.exists():
        venv.create(given.venv, symlinks=True, with_pip=False)
    install(given.venv, [given.package] if given.package else requirements(given.extra), given.added)
    slim(given.added or given.venv)


if __name__ == "__main__":
    main()
