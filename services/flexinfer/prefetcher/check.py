"""`python -m flexinfer.prefetcher.check [--inside=FOLDER] PATH [FILE...]`: check that a path has data and files can be loaded, with the engine's mounts.

Runs inside a Job. Imports nothing but the standard library and what reads headers, so that it takes little more than a
process start. The last line of its output, which is also the termination message, is a JSON object that
`report.JobReport` describes.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from flexinfer.prefetcher import gguf, headers, safetensors

REPORT = "/dev/termination-log"
NOT_FOUND = 3
"""Exit code of a Job whose source does not exist."""
INSIDE = "--inside="
"""The folder that no path may lead out of."""
MOUNTS_VARIABLE = "FLEXINFER_MOUNTS"
"""Set on the local node, where a process has no mounts: a JSON object of mount path -> path on the host."""

_WEIGHTS, _LARGEST_POINTER, _SHOWN = (".gguf", ".safetensors", ".bin"), 1024, 5

JobReport: TypeAlias = dict[str, str | int | float | headers.Figures]


def check_path(path: Path, files: Sequence[Path] = (), inside: Path | None = None) -> JobReport:
    """Return the size of a file or folder in bytes with the figures of its headers, or why there is none; what is empty counts as missing.

    `files` must be there too, beside or below the path. A file that no engine can load is named: one of `files`, the path
    itself, or a git-lfs pointer in the folder. None of them may lead out of `inside` by a symbolic link.
    """
    try:
        if outside := _outside([path, *files], inside):
            return outside
        size = path.stat().st_size if path.is_file() else sum(_sizes(path))
        if not size:
            return {"reason": "SourceNotFound", "message": f"{path} does not exist or is empty"}
        fault = _missing(files) or _unloadable([*dict.fromkeys([*_suspects(path), *files])])
        return fault or {"found": True, "bytes": size} | with_figures(path, files)
    except FileNotFoundError:
        return {"reason": "SourceNotFound", "message": f"{path} does not exist or is empty"}
    except OSError as error:
        return {
            "reason": "Unreadable",
            "message": f"{error.filename or path} cannot be read: {error.strerror}",
        }


def with_figures(path: Path, files: Sequence[Path]) -> JobReport:
    """Return the part of a report that has the figures of a model's headers; empty if none can be read."""
    paths = dict.fromkeys([*([path] if path.is_file() else []), *files])
    figures = headers.of_files([*paths]) or (headers.of_folder(path) if path.is_dir() else {})
    return {"headers": figures} if figures else {}


def _outside(paths: Sequence[Path], inside: Path | None) -> JobReport:
    """Return the fault of the first path that leads out of a folder."""
    if inside is None:
        return {}
    root = inside.resolve()
    leading = next((path for path in paths if not path.resolve().is_relative_to(root)), None)
    if leading is None:
        return {}
    message = f"{leading} leads out of the volume, to {leading.resolve()}. Remedy: put the file itself on the volume"
    return {"reason": "Unreadable", "message": message}


def _missing(files: Sequence[Path]) -> JobReport:
    missing = [path for path in files if not path.is_file()]
    if not missing:
        return {}
    names, more = ", ".join(map(str, missing[:_SHOWN])), len(missing) - _SHOWN
    others = f" and {more} more" if more > 0 else ""
    message = f"{names}{others} does not exist ({len(missing)} of {len(files)} files are missing)"
    remedy = "add what is missing, or correct spec.source or spec.config"
    return {"reason": "FileNotFound", "message": f"{message}. Remedy: {remedy}"}


def _unloadable(files: Sequence[Path]) -> JobReport:
    faults = (
        gguf.fault(path) or (safetensors.fault(path) if _is_safetensors(path) else "") for path in files
    )
    fault = next((fault for fault in faults if fault), "")
    remedy = "put the complete file in its place (for a pointer: git lfs pull)"
    return {"reason": "IncompleteFile", "message": f"{fault}. Remedy: {remedy}"} if fault else {}


def _suspects(path: Path) -> list[Path]:
    """Return the file itself; of a folder, those that are as small as a git-lfs pointer is, and all in safetensors."""
    if path.is_file():
        return [path]
    return [
        Path(root) / name
        for root, _, names in os.walk(path)
        for name in names
        if _is_safetensors(file := Path(root) / name)
        or (name.endswith(_WEIGHTS) and file.stat().st_size <= _LARGEST_POINTER)
    ]


def _is_safetensors(file: Path) -> bool:
    """Return whether a file is meant to be one; engines load no hidden ones, which other systems leave beside them."""
    return file.name.endswith(".safetensors") and not file.name.startswith(".")


def _sizes(folder: Path) -> list[int]:
    if not folder.exists():
        return []
    return [
        (Path(root) / name).stat().st_size
        for root, _, names in os.walk(folder)
        for name in names
        if (Path(root) / name).is_file()
    ]


def write_report(report: JobReport, environment: Mapping[str, str] = os.environ) -> None:
    """Write a report to the termination log, which Kubernetes reads, and as the last line of the output."""
    line = json.dumps(report)
    with contextlib.suppress(OSError, ValueError):
        mounts = json.loads(environment.get(MOUNTS_VARIABLE, "{}"))
        if REPORT in mounts or Path(REPORT).is_file():
            Path(mounts.get(REPORT, REPORT)).write_text(line)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Check, write the report, and return the exit code."""
    options = [argument for argument in arguments if argument.startswith(INSIDE)]
    inside = Path(options[0].removeprefix(INSIDE)) if options else None
    paths = [Path(argument) for argument in arguments if argument not in options]
    if not paths:
        sys.stderr.write("usage: python -m flexinfer.prefetcher.check [--inside=FOLDER] PATH [FILE...]\n")
        return 2
    report = check_path(paths[0], paths[1:], inside)
    write_report(report)
    if "found" in report:
        return 0
    return NOT_FOUND if report["reason"] == "SourceNotFound" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
