"""Manifest: what a complete folder contains, written beside the files when all of them were verified.

A folder without one is not complete, whatever it holds; neither is one whose files are missing or have another size.
"""

import hashlib
from pathlib import Path

import msgspec

from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.prefetcher.download.remote import RemoteFile
from flexinfer.sources.base import Files

NAME = ".flexinfer.json"
_BLOCK = 2**20


class ManifestFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the folder."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The selection, the commit that its files are of, and the files."""

    source: str
    fingerprint: str
    commit: str
    selection: Files
    files: tuple[ManifestFile, ...]
    left_out: tuple[str, ...] = ()
    """Paths of selected files that were not downloaded, since they can run code."""

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The paths of files that are loaded together; empty: the folder's own rules say which."""
        if self.selection.registry:
            return tuple(file.path for file in self.files)
        return self.selection.names


def read(folder: Path) -> Manifest | None:
    """Return the manifest of a folder; None if it has none."""
    try:
        return read_json((folder / NAME).read_bytes(), Manifest)
    except (OSError, ForeignJsonError):
        return None


def complete(folder: Path) -> Manifest | None:
    """Return the manifest of a folder whose files are all there; None otherwise."""
    manifest = read(folder)
    if manifest is None or not all(_is_there(folder / file.path, file.size) for file in manifest.files):
        return None
    return manifest


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False


def sha256(path: Path) -> str:
    """Return the digest of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_right(path: Path, file: RemoteFile) -> bool:
    """Return whether a file is the one of the hub, by sha256, or by git's own digest for one that git keeps."""
    if not _is_there(path, file.size):
        return False
    if file.sha256:
        return sha256(path) == file.sha256
    return not file.blob or _git_blob(path, file.size) == file.blob


def _git_blob(path: Path, size: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size)  # noqa: S324 -- git's own name for the content
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
