"""Tilt: found on this machine, or built from its module.

Its module as published lacks the web page that Tilt shows, and Tilt refuses to start without one: it is built from a copy with an empty page,
so its web interface stays empty here. Everything that `tilt ci` and `tilt up --stream` do works.
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
"""The newest whose parts the module proxy gave when this was written: 0.37.6 needs a tilt-apiserver that it withholds."""


def source(module: str = "node/tilt") -> Source:
    """Return how Tilt is built, out of which module."""
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


def locate(environment: Mapping[str, str], tell: programs.Report) -> Path:
    """Return the path of Tilt, built if need be."""
    found = programs.find(source(), environment, lambda _: None)
    if found is not None:
        return found.path
    folder = programs.target(source(), environment).parent / "module"
    _copy(folder, environment)
    try:
        return programs.locate([source(str(folder))], environment, tell)["tilt"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(folder: Path, environment: Mapping[str, str]) -> None:
    """Copy our module, and beside it Tilt's with the page that it lacks."""
    shutil.rmtree(folder, ignore_errors=True)
    with build.module_folder(source().module) as ours:
        shutil.copytree(ours, folder)
    clean = {**environment, "GOFLAGS": "", "GOWORK": "off"}
    go = build.toolchain(folder, environment)
    words = (go, "mod", "download", "-json", _MODULE)
    done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    if "Dir" not in told:
        raise programs.ProgramError(f"Tilt cannot be fetched: {told.get('Error') or done.stderr.strip()}")
    shutil.copytree(told["Dir"], folder / "tilt", copy_function=shutil.copyfile)
    for part in (folder / "tilt", *(folder / "tilt").rglob("*")):
        if part.is_dir():
            part.chmod(0o755)  # the module cache is read-only
    page = folder / "tilt" / _PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<!doctype html><title>Tilt</title>built without its web page\n")
    with (folder / "go.mod").open("a") as file:
        file.write(f"\nreplace {_MODULE} => ./tilt\n")
