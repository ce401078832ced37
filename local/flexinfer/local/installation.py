"""The installation of this process: its version, a hash of its files, and where it is. A checkout changes without another version."""

import hashlib
import sys
from collections.abc import Collection
from pathlib import Path

import msgspec

import flexinfer
import localkube

_DIGITS = 12


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """One installation of FlexInfer. All are empty of one that did not record it."""

    version: str = ""
    build: str = ""
    folder: str = ""

    @property
    def text(self) -> str:
        """The installation as a part of a message."""
        if not self.build:
            return "FlexInfer of an earlier version (its build is not recorded)"
        return f"FlexInfer {self.version} (build {self.build} in {self.folder})"


def installed() -> Installation:
    """Return the installation that runs this process."""
    packages = {Path(path) for path in (*flexinfer.__path__, *localkube.__path__)}
    return Installation(version=_version(), build=build_of(packages), folder=sys.prefix)


def _version() -> str:
    """Return the version as pip installed it: by the folder's name, since importlib.metadata would stay in memory as long as `flexinfer up` runs."""
    folders = (folder for path in sys.path for folder in Path(path).glob("flexinfer-*.dist-info"))
    first = next(folders, None)
    return first.name.removesuffix(".dist-info").partition("-")[2] if first is not None else "unknown"


def build_of(folders: Collection[Path]) -> str:
    """Return a hash of the files of some folders, compiled code left out."""
    digest = hashlib.sha256()
    for folder in sorted(folders):
        for file in sorted(folder.rglob("*")):
            if "__pycache__" not in file.parts and file.is_file():
                digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:_DIGITS]
