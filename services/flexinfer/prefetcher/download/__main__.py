"""`python -m flexinfer.prefetcher.download`: download weights of a hub or registry, completely or not at all.

Runs inside a Job, or as the init container of a Pod. The last line of its output, which is also the termination message,
is the report. A failure ends the process at once, and the Job with it: what to retry when is the prefetcher's to say.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp

# isort: split
from flexinfer.prefetcher.check import JobReport, with_figures, write_report
from flexinfer.prefetcher.download import authorities, unsafe
from flexinfer.prefetcher.download.failure import DownloadError, line
from flexinfer.prefetcher.download.fetching import Download, fetch
from flexinfer.prefetcher.download.manifest import Manifest
from flexinfer.prefetcher.download.progress import Progress, served
from flexinfer.prefetcher.download.registry import Registry
from flexinfer.prefetcher.download.remote import Listing, Remote
from flexinfer.prefetcher.download.token import Token, read
from flexinfer.sources.base import Files

STALL_SECONDS = 60.0
"""How long the hub may send nothing before the download ends; the next one continues where it stopped."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.prefetcher.download")
    parser.add_argument("--files", required=True, help="JSON of the selection (flexinfer.sources.base.Files)")
    parser.add_argument("--into", required=True, type=Path)
    parser.add_argument("--list", action="store_true", help="only report commit and size of the files")
    parser.add_argument("--registry", default="", help="address that stands for Ollama's own registry")
    parser.add_argument("--secret", default="", help="name of the Secret with the token")
    parser.add_argument("--secret-folder", type=Path, help="where it is mounted")
    parser.add_argument("--secret-required", action="store_true")
    parser.add_argument("--stall-seconds", type=float, default=STALL_SECONDS)
    parser.add_argument("--progress-port", type=int, default=0)
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace) -> Manifest | Listing:
    selection = msgspec.json.decode(options.files, type=Files)
    authorities.use(os.environ)
    progress = Progress(time.monotonic)
    async with served(progress, os.environ.get("POD_IP", "127.0.0.1"), options.progress_port):
        remote = _remote(selection, _token(options), options.registry)
        if options.list:
            return await asyncio.to_thread(remote.list_files)
        return await fetch(Download(selection, remote, options.into, options.stall_seconds), progress)


def _token(options: argparse.Namespace) -> Token:
    if options.secret_folder is None:
        return Token()
    return read(options.secret_folder, options.secret, required=options.secret_required)


def _remote(selection: Files, token: Token, mirror: str) -> Remote:
    if selection.registry:
        return Registry(selection, token, mirror, os.environ.get("HF_ENDPOINT", ""))
    # The client of the hub is a third of what a start computes, and a registry needs none of it.
    from flexinfer.prefetcher.download.hub import Repository  # noqa: PLC0415

    return Repository(selection, token)


def main(arguments: Sequence[str]) -> int:
    """Download or list, write the report, and return the exit code."""
    start, options = time.monotonic(), parse(arguments)
    try:
        result = asyncio.run(_run(options))
    except DownloadError as error:
        lacks: JobReport = {"lacks": error.lacks} if error.lacks else {}
        write_report({"reason": error.reason, "message": str(error)} | lacks)
        return 1
    except OSError as error:
        write_report({"reason": "FetchFailed", "message": line(error)})
        return 1
    report = _listed(result) if isinstance(result, Listing) else _downloaded(result, options.into)
    write_report(report | {"seconds": round(time.monotonic() - start, 1)})
    return 0


def _listed(listing: Listing) -> JobReport:
    return {"revision": listing.commit, "bytes": listing.size}


def _downloaded(manifest: Manifest, into: Path) -> JobReport:
    report: JobReport = {"revision": manifest.commit, "bytes": manifest.bytes}
    figures = with_figures(into, [into / name for name in manifest.loaded])
    report |= {
        "unsafe": unsafe.shown(file.path for file in manifest.files if unsafe.is_unsafe(file.path)),
        "left_out": unsafe.shown(manifest.left_out),
    }
    return report | figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
