"""`python -m flexinfer.prefetcher.fetch`: bring a Hugging Face repository into a folder, whole or not at all.

Runs inside a Job, or as the first container of a Pod. It fetches beside the folder and renames at the end, so a folder of that name is always a
whole one; the manifest in it says of what. Started again after a kill, it goes on where it stopped.
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
from typing import Any, NamedTuple

from flexinfer.prefetcher.check import tell

MANIFEST = ".flexinfer.json"
KEPT_FORMER = 1
"""Former folders that stay: an engine of the former spec may still read one."""


class Wanted(NamedTuple):
    """What is fetched, and where it goes."""

    repository: str
    into: Path
    fingerprint: str
    revision: str | None = None
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class FetchError(Exception):
    """The hub or the disk said no; the message is for the user."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def fetch(wanted: Wanted) -> dict[str, Any]:
    """Make the folder hold what is wanted; returns revision and bytes. FetchError when that cannot be."""
    known = manifest(wanted.into)
    if known is not None and known.get("fingerprint") == wanted.fingerprint:
        return {"revision": known["revision"], "bytes": known["bytes"]}
    staging = wanted.into.with_name(f".{wanted.into.name}.part")
    staging.mkdir(parents=True, exist_ok=True)
    revision = _download(wanted, staging)
    shutil.rmtree(staging / ".cache", ignore_errors=True)
    size = sum(f.stat().st_size for f in staging.rglob("*") if f.is_file())
    if not size:
        chosen = ", ".join(wanted.allow) or "any file"
        raise FetchError("SourceNotFound", f"{wanted.repository} has no file that matches {chosen}")
    report = {"revision": revision, "bytes": size}
    told = report | {"repository": wanted.repository, "fingerprint": wanted.fingerprint}
    (staging / MANIFEST).write_text(json.dumps(told))
    _sync(staging)
    if wanted.into.exists():  # without a manifest of this choice, it is not one that we finished
        shutil.rmtree(wanted.into)
    staging.rename(wanted.into)
    _sync(wanted.into.parent)
    _forget_former(wanted.into)
    return report


def manifest(folder: Path) -> dict[str, Any] | None:
    """Return what a folder says that it holds, or None when it was never finished."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _download(wanted: Wanted, staging: Path) -> str:
    """Fetch into the staging folder; returns the commit that it was."""
    import huggingface_hub as hub  # noqa: PLC0415 -- after the environment is set
    from huggingface_hub import errors  # noqa: PLC0415

    try:
        info = hub.HfApi().model_info(wanted.repository, revision=wanted.revision)
        hub.snapshot_download(
            wanted.repository,
            revision=info.sha,
            local_dir=staging,
            allow_patterns=list(wanted.allow) or None,
            ignore_patterns=list(wanted.ignore) or None,
        )
    except errors.GatedRepoError as error:
        raise FetchError(
            "Gated",
            f"{wanted.repository} is gated: accept its terms and put a token into the Secret hf-token",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FetchError(
            "SourceNotFound",
            f"the hub has no repository {wanted.repository}, or it needs a token (Secret hf-token)",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FetchError(
            "SourceNotFound", f"{wanted.repository} has no revision {wanted.revision}"
        ) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise FetchError("Away", f"the hub did not deliver {wanted.repository}: {_line(error)}") from error
    except OSError as error:
        raise FetchError(
            "Disk", f"{wanted.repository} cannot be written to {staging}: {_line(error)}"
        ) from error
    return str(info.sha)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk before the rename that says that it is whole."""
    for path in [folder, *(p for p in folder.rglob("*") if p.is_file())] if folder.is_dir() else []:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _forget_former(folder: Path) -> None:
    """Remove finished folders of this Model but the newest former one, and what was begun for another choice."""
    others = [f for f in folder.parent.iterdir() if f.is_dir() and f != folder]
    finished = sorted((f for f in others if manifest(f) is not None), key=lambda f: f.stat().st_mtime)
    begun = [f for f in others if f.name.startswith(".") and f.name.endswith(".part")]
    for stale in [*finished[: max(0, len(finished) - KEPT_FORMER)], *begun]:
        shutil.rmtree(stale, ignore_errors=True)


def parse(arguments: Sequence[str]) -> Wanted:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.prefetcher.fetch")
    parser.add_argument("--repository", required=True)
    parser.add_argument("--into", required=True, type=Path)
    parser.add_argument("--fingerprint", required=True)
    parser.add_argument("--revision")
    parser.add_argument("--allow", type=_texts, default=())
    parser.add_argument("--ignore", type=_texts, default=())
    given = parser.parse_args(arguments)
    return Wanted(given.repository, given.into, given.fingerprint, given.revision, given.allow, given.ignore)


def _texts(text: str) -> tuple[str, ...]:
    return tuple(str(item) for item in json.loads(text))


def main(arguments: Sequence[str]) -> int:
    """Fetch, tell, and return the exit code."""
    began = time.monotonic()
    try:
        report = fetch(parse(arguments))
    except FetchError as error:
        tell({"reason": error.reason, "message": str(error)})
        return 3 if error.reason == "SourceNotFound" else 1
    tell(report | {"seconds": round(time.monotonic() - began, 1)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
