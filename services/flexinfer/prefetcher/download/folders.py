"""The folders of a download: `<fingerprint>` is complete, `.<fingerprint>.part` is being filled, `.blobs` in it holds large files.

Started again after a kill, a download continues with what is there. Complete folders of other selections lend their files.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from flexinfer.prefetcher.download import manifest as manifests
from flexinfer.prefetcher.download.failure import of_disk
from flexinfer.prefetcher.download.manifest import Manifest
from flexinfer.prefetcher.download.remote import Listing, RemoteFile

KEPT_PREVIOUS = 1
"""Complete folders of other selections that are kept: an engine of the previous spec may still read one."""
BLOBS = ".blobs"


class Staging:
    """The folder that is being filled for `final`. Methods block. Raises DownloadError where the disk does not serve."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.folder = final.with_name(f".{final.name}.part")
        self.blobs = self.folder / BLOBS

    def open(self) -> None:
        """Make the folder; one that was complete and lost files is filled again. Raises DownloadError."""
        try:
            if self.final.exists():
                (self.final / manifests.NAME).unlink(missing_ok=True)
                if self.folder.exists():
                    shutil.rmtree(self.final)
                else:
                    self.final.rename(self.folder)
            self.blobs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise of_disk(error, self.final.parent) from error

    def path(self, file: RemoteFile) -> Path:
        """Return where a file is once it is complete."""
        return self.folder / file.path

    def free(self) -> int:
        """Return how many bytes the disk has left."""
        return shutil.disk_usage(self.folder).free

    def used(self) -> int:
        """Return how many bytes of the disk the folder takes already."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.rglob("*") if path.is_file())

    def borrow(self, file: RemoteFile) -> bool:
        """Take a large file from a complete folder beside this one, if one has it; returns whether."""
        for folder in self.final.parent.iterdir():
            existing = manifests.complete(folder) if folder.is_dir() else None
            for other in existing.files if existing is not None else ():
                if other.sha256 == file.sha256 and other.size == file.size:
                    return _linked(folder / other.path, self.blobs / file.sha256)
        return False

    def place(self, file: RemoteFile) -> None:
        """Move a large file from its digest to its path; a second path of the same content is a copy. Raises DownloadError."""
        blob, target = self.blobs / file.sha256, self.path(file)
        if not blob.exists():
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not _linked(blob, target):
                blob.rename(target)
        except OSError as error:
            raise of_disk(error, self.folder) from error

    def publish(self, manifest: Manifest) -> None:
        """Make the folder the final one: everything is on the disk before its name says that it is complete. Raises DownloadError."""
        try:
            shutil.rmtree(self.blobs, ignore_errors=True)
            shutil.rmtree(self.folder / ".cache", ignore_errors=True)
            self._remove_others({file.path for file in manifest.files})
            (self.folder / manifests.NAME).write_bytes(msgspec.json.encode(manifest))
            _sync(self.folder)
            self.folder.rename(self.final)
            _sync_one(self.final.parent)
        except OSError as error:
            raise of_disk(error, self.final.parent) from error
        _delete_others(self.final)

    def _remove_others(self, kept_files: set[str]) -> None:
        """Delete files of an earlier listing."""
        for path in self.folder.rglob("*"):
            if path.is_file() and str(path.relative_to(self.folder)) not in kept_files:
                path.unlink()

    def discard(self) -> None:
        """Delete everything that is not complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _linked(origin: Path, target: Path) -> bool:
    """Give a file a second name; returns False where the file system has no such names."""
    try:
        target.unlink(missing_ok=True)
        os.link(origin, target)
    except OSError:
        return False
    return True


def missing_bytes(listing: Listing, staging: Staging) -> int:
    """Return how many bytes a download will still take from the disk."""
    return max(0, listing.size - staging.used())


def _sync(folder: Path) -> None:
    for path in _tree(folder):
        _sync_one(path)


def _tree(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file() or path.is_dir())
    yield folder


def _sync_one(path: Path) -> None:
    """Flush a file or folder to the disk; one that cannot be flushed is left out."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _delete_others(folder: Path) -> None:
    """Delete complete folders but the newest other one, and what other selections left incomplete."""
    others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    complete = sorted((p for p in others if manifests.read(p) is not None), key=lambda p: p.stat().st_mtime)
    staging = [path for path in others if path.name.startswith(".") and path.name.endswith(".part")]
    for path in [*complete[: max(0, len(complete) - KEPT_PREVIOUS)], *staging]:
        shutil.rmtree(path, ignore_errors=True)
