"""`python -m flexinfer.prefetcher.fetch`: download a Hugging Face repository, completely or not at all.

Runs inside a Job, or as the init container of a Pod. Downloads into a staging folder beside the final one
and renames it at the end, so a folder of that name is always complete; its manifest says what it contains.
Started again after a kill, it keeps the files that were complete and downloads the others from their start:
the library resumes a broken connection within a process, not across two. Retries are the Job's.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flexinfer.prefetcher.check import NOT_FOUND, Report, write_report

MANIFEST = ".flexinfer.json"
KEPT_PREVIOUS = 1
"""Complete folders of other choices that are kept: an engine of the previous spec may still read one."""
_CAUSE_LIMIT = 300


class Download(NamedTuple):
    """A choice of files of a repository, and the folder for them; `fingerprint` identifies the choice."""

    repository: str
    into: Path
    fingerprint: str
    revision: str | None = None
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class Manifest(NamedTuple):
    """What a complete folder contains: the choice, the commit of the repository, and the size in bytes."""

    repository: str
    fingerprint: str
    revision: str
    bytes: int


class FetchError(Exception):
    """The Hub or the disk prevented a download; reason and message are those of the report."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def fetch(download: Download) -> Manifest:
    """Make the folder contain the chosen files; returns its manifest. Raises FetchError."""
    existing = read_manifest(download.into)
    if existing is not None and existing.fingerprint == download.fingerprint:
        return existing
    staging = download.into.with_name(f".{download.into.name}.part")
    staging.mkdir(parents=True, exist_ok=True)
    revision = _download(download, staging)
    shutil.rmtree(staging / ".cache", ignore_errors=True)
    size = sum(f.stat().st_size for f in staging.rglob("*") if f.is_file())
    if not size:
        patterns = ", ".join(download.allow) or "any file"
        raise FetchError("SourceNotFound", f"{download.repository} has no file that matches {patterns}")
    manifest = Manifest(download.repository, download.fingerprint, revision, size)
    (staging / MANIFEST).write_text(json.dumps(manifest._asdict()))
    _publish(staging, download.into)
    _delete_others(download.into)
    return manifest


def _publish(staging: Path, folder: Path) -> None:
    """Rename the staging folder, with all of it on disk before and after."""
    _sync(staging)
    if folder.exists():  # without a manifest of this choice it was not completed by this program
        shutil.rmtree(folder)
    staging.rename(folder)
    _sync(folder.parent)


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, or None if the folder is not complete."""
    try:
        data = json.loads((folder / MANIFEST).read_text())
        return Manifest(
            str(data["repository"]), str(data["fingerprint"]), str(data["revision"]), int(data["bytes"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _download(download: Download, staging: Path) -> str:
    """Download into the staging folder; returns the commit. Raises FetchError."""
    import huggingface_hub as hub  # noqa: PLC0415 -- it reads its environment when it is imported
    from huggingface_hub import errors  # noqa: PLC0415

    repository = download.repository
    try:
        info = hub.HfApi().model_info(repository, revision=download.revision)
        hub.snapshot_download(
            repository,
            revision=info.sha,
            local_dir=staging,
            allow_patterns=list(download.allow) or None,
            ignore_patterns=list(download.ignore) or None,
        )
    except errors.GatedRepoError as error:
        remedy = "accept its terms on the Hugging Face Hub, and put a token into the Secret hf-token"
        message = f"{repository} is gated. Remedy: {remedy}"
        raise FetchError("Gated", message) from error
    except errors.RepositoryNotFoundError as error:
        message = (
            f"the Hugging Face Hub has no repository {repository}, or it needs a token (Secret hf-token)"
        )
        raise FetchError("SourceNotFound", message) from error
    except errors.RevisionNotFoundError as error:
        message = f"{repository} has no revision {download.revision}"
        raise FetchError("SourceNotFound", message) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        message = f"the Hugging Face Hub did not serve {repository}: {_line(error)}"
        raise FetchError("HubUnavailable", message) from error
    except OSError as error:
        message = f"{repository} cannot be written to {staging}: {_line(error)}"
        raise FetchError("WriteFailed", message) from error
    return str(info.sha)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_CAUSE_LIMIT] or type(error).__name__


def _sync(folder: Path) -> None:
    """Flush a folder and its files to disk; what cannot be flushed is left out."""
    for path in [folder, *(p for p in folder.rglob("*") if p.is_file())] if folder.is_dir() else []:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _delete_others(folder: Path) -> None:
    """Delete the Model's complete folders but the newest other one, and staging folders of other choices."""
    others = [f for f in folder.parent.iterdir() if f.is_dir() and f != folder]
    complete = sorted((f for f in others if read_manifest(f) is not None), key=lambda f: f.stat().st_mtime)
    staging = [f for f in others if f.name.startswith(".") and f.name.endswith(".part")]
    for path in [*complete[: max(0, len(complete) - KEPT_PREVIOUS)], *staging]:
        shutil.rmtree(path, ignore_errors=True)


def parse(arguments: Sequence[str]) -> Download:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.prefetcher.fetch")
    parser.add_argument("--repository", required=True)
    parser.add_argument("--into", required=True, type=Path)
    parser.add_argument("--fingerprint", required=True)
    parser.add_argument("--revision")
    parser.add_argument("--allow", type=_patterns, default=())
    parser.add_argument("--ignore", type=_patterns, default=())
    args = parser.parse_args(arguments)
    return Download(args.repository, args.into, args.fingerprint, args.revision, args.allow, args.ignore)


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(str(item) for item in json.loads(text))


def main(arguments: Sequence[str]) -> int:
    """Download, write the report, and return the exit code."""
    start = time.monotonic()
    try:
        manifest = fetch(parse(arguments))
    except FetchError as error:
        write_report({"reason": error.reason, "message": str(error)})
        return NOT_FOUND if error.reason == "SourceNotFound" else 1
    report: Report = {"revision": manifest.revision, "bytes": manifest.bytes}
    write_report(report | {"seconds": round(time.monotonic() - start, 1)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
