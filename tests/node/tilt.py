"""Tilt, found on this machine or built from its Go module.

The published module lacks the web page, without which Tilt does not start: it is built from a copy with an
empty page, so its web interface is empty here. `tilt ci` and `tilt up --stream` work.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flexinfer.local.controlplane import programs
from localkube.controlplane import build
from localkube.controlplane.catalogue import Source

_MODULE = "github.com/tilt-dev/tilt"
_PAGE = "pkg/assets/build/index.html"
VERSION = "0.37.5"
"""The newest version that the module proxy had completely: 0.37.6 needs a tilt-apiserver that it lacked."""


def source(module: str = "node/tilt") -> Source:
    """Return how Tilt is built, and from which module."""
    return Source(
        name="tilt",
        version=VERSION,
        module=module,
        package=f"{_MODULE}/cmd/tilt",
        oldest=(0, 35),
        below=(1, 0),
        settings=(f"main.version={VERSION}",),
        cgo=True,
        version_args=("version",),
        minutes=4,
    )


def locate(environment: Mapping[str, str], report: programs.Report) -> Path:
    """Return the path of Tilt, built if it is not installed."""
    program = programs.find(source(), environment, lambda _: None)
    if program is not None:
        return program.path
    folder = programs.target(source(), environment).parent / "module"
    _copy(folder, environment)
    try:
        return programs.locate([source(str(folder))], environment, report)["tilt"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(folder: Path, environment: Mapping[str, str]) -> None:
    """Copy the module of this repository, and beside it that of Tilt with the missing page."""
    shutil.rmtree(folder, ignore_errors=True)
    with build.module_folder(source().module) as module:
        shutil.copytree(module, folder)
    clean = {**environment, "GOFLAGS": "", "GOWORK": "off"}
    go = build.toolchain(folder, environment)
    words = (go, "mod", "download", "-json", _MODULE)
    done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    download = json.loads(done.stdout or "{}")
    if "Dir" not in download:
        raise programs.ProgramError(
            f"Tilt cannot be downloaded: {download.get('Error') or done.stderr.strip()}"
        )
    shutil.copytree(download["Dir"], folder / "tilt", copy_function=shutil.copyfile)
    for part in (folder / "tilt", *(folder / "tilt").rglob("*")):
        if part.is_dir():
            part.chmod(0o755)  # the module cache is read-only
    page = folder / "tilt" / _PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<!doctype html><title>Tilt</title>built without its web page\n")
    with (folder / "go.mod").open("a") as file:
        file.write(f"\nreplace {_MODULE} => ./tilt\n")
