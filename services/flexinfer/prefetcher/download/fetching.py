"""One download from the listing to the manifest: what is there already is kept, the rest is fetched, all of it is verified."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from flexinfer.api.numbers import counted
from flexinfer.api.reason import Reason
from flexinfer.prefetcher import gguf
from flexinfer.prefetcher.download import manifest as manifests
from flexinfer.prefetcher.download.blob import Blob
from flexinfer.prefetcher.download.failure import DownloadError, first_of, of_disk
from flexinfer.prefetcher.download.folders import Staging, missing_bytes
from flexinfer.prefetcher.download.manifest import Manifest, ManifestFile
from flexinfer.prefetcher.download.one_writer import only_writer
from flexinfer.prefetcher.download.progress import Progress
from flexinfer.prefetcher.download.ranged import Ranged, WholeOnlyError
from flexinfer.prefetcher.download.remote import Listing, Location, Remote, RemoteFile
from flexinfer.sources.base import Files

_RESERVE = 64 * 2**20
"""Bytes of the disk that a download leaves free."""
_WHOLE_AT_ONCE = 4


class Download(NamedTuple):
    """A selection of files, what has them, the folder for them, and the longest silence of the remote in seconds."""

    selection: Files
    remote: Remote
    into: Path
    stall: float


async def fetch(download: Download, progress: Progress) -> Manifest:
    """Make the folder hold the selected files; returns its manifest. Raises DownloadError."""
    existing = _existing(download, progress)
    if existing is not None:
        return existing
    async with only_writer(download.into.parent, download.stall):
        existing = _existing(download, progress)
        if existing is not None:
            return existing
        staging = Staging(download.into)
        try:
            return await _filled(download, staging, progress)
        except DownloadError as error:
            if error.reason == Reason.DISK_FULL:
                await asyncio.to_thread(staging.discard)
            raise


def _existing(download: Download, progress: Progress) -> Manifest | None:
    """Return the manifest of a folder that holds the selection already; None if there is none."""
    existing = manifests.complete(download.into)
    if existing is None or existing.fingerprint != download.selection.fingerprint:
        return None
    progress.begin(existing.bytes, existing.bytes)
    return existing


async def _filled(download: Download, staging: Staging, progress: Progress) -> Manifest:
    listing = await asyncio.to_thread(download.remote.list_files)
    await asyncio.to_thread(staging.open)
    blobs = await asyncio.to_thread(_blobs, listing, staging)
    _refuse_too_large(listing, staging)
    small = [file for file in listing.files if not file.large]
    done = sum(blob.present for blob in blobs)
    progress.begin(sum(blob.file.size for blob in blobs) + sum(file.size for file in small), done)
    await _whole(download, listing, staging, small, progress)
    await _large(download, listing, staging, blobs, progress)
    return await asyncio.to_thread(_published, download, listing, staging)


def _blobs(listing: Listing, staging: Staging) -> list[Blob]:
    """Return the large files that are not at their path yet, each content once."""
    by_digest = {file.sha256: file for file in listing.files if file.large}
    missing = [
        file
        for file in by_digest.values()
        if not (staging.blobs / file.sha256).exists() and not manifests.is_right(staging.path(file), file)
    ]
    return [Blob(file, staging.blobs) for file in missing if not staging.borrow(file)]


def _refuse_too_large(listing: Listing, staging: Staging) -> None:
    needed_bytes, free = missing_bytes(listing, staging), staging.free()
    spare = min(_RESERVE, needed_bytes)
    lacks = needed_bytes + spare - free
    if lacks > 0:
        raise DownloadError(
            Reason.DISK_FULL,
            f"{counted(len(listing.files), 'file')} of {listing.size:,} bytes: {needed_bytes:,} more and {spare:,} to spare are needed, and the disk "
            f"of {staging.final.parent} has {free:,} free, {lacks:,} too few. Remedy: free space, or use a larger volume (spec.cache.size)",
            lacks,
        )


async def _whole(
    download: Download, listing: Listing, staging: Staging, files: Iterable[RemoteFile], progress: Progress
) -> None:
    """Fetch files that have no digest of their own, each by one request, and verify them by git's."""
    limit = asyncio.Semaphore(_WHOLE_AT_ONCE)

    async def one(file: RemoteFile) -> None:
        async with limit:
            await asyncio.to_thread(_fetch_whole, download.remote, listing.commit, file, staging)
            progress.add(file.size, file.path)

    with _first_error():
        async with asyncio.TaskGroup() as group:
            for file in files:
                group.create_task(one(file))


def _fetch_whole(remote: Remote, commit: str, file: RemoteFile, staging: Staging) -> None:
    path = staging.path(file)
    try:
        if manifests.is_right(path, file):
            return
        path.unlink(missing_ok=True)
        remote.fetch_whole(commit, file, staging.folder)
        right = manifests.is_right(path, file)
        if not right:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise of_disk(error, staging.folder) from error
    if not right:
        raise DownloadError(
            Reason.CHECKSUM_MISMATCH,
            f"{file.path} came with other bytes than {remote.name} lists; it was deleted",
        )


async def _large(
    download: Download, listing: Listing, staging: Staging, blobs: Sequence[Blob], progress: Progress
) -> None:
    async def locate(file: RemoteFile) -> Location:
        return await asyncio.to_thread(download.remote.locate, listing.commit, file)

    try:
        with _first_error():
            await Ranged(locate, progress, stall=download.stall, failed=download.remote.unavailable).fetch(
                blobs
            )
    except WholeOnlyError:
        rest = [blob.file for blob in blobs if not blob.complete.exists()]
        await _whole(download, listing, staging, rest, progress)
    for file in listing.files:
        if file.large:
            await asyncio.to_thread(staging.place, file)


def _published(download: Download, listing: Listing, staging: Staging) -> Manifest:
    """Write the manifest and give the folder its name."""
    for file in listing.files:
        fault = gguf.fault(staging.path(file))
        if fault:
            raise DownloadError(
                Reason.INCOMPLETE_FILE,
                f"{download.remote.name}: {fault}. Remedy: choose another file",
            )
    selection = download.selection
    manifest = Manifest(
        source=download.remote.source,
        fingerprint=selection.fingerprint,
        commit=listing.commit,
        selection=selection,
        left_out=listing.left_out,
        files=tuple(
            ManifestFile(
                path=file.path, size=file.size, sha256=file.sha256 or manifests.sha256(staging.path(file))
            )
            for file in listing.files
        ),
    )
    staging.publish(manifest)
    return manifest


@contextlib.contextmanager
def _first_error() -> Iterator[None]:
    """Raise the first error of a group of tasks in place of the group."""
    try:
        yield
    except BaseExceptionGroup as errors:
        raise first_of(errors) from errors
