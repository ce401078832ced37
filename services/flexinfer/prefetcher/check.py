"""`python -m flexinfer.prefetcher.check PATH`: check that a path has data, with the engine's mounts.

Runs inside a Job. Imports nothing but the standard library, so that it takes little more than a process
start. The last line of its output, which is also the termination message, is a JSON object that
`report.JobReport` describes.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

REPORT = "/dev/termination-log"
NOT_FOUND = 3
"""Exit code of a Job whose source does not exist."""
MOUNTS_VARIABLE = "FLEXINFER_MOUNTS"
"""Set on the local node, where a process has no mounts: a JSON object of mount path -> path on the host."""

Report: TypeAlias = dict[str, str | int | float]


def check_path(path: Path) -> Report:
    """Return the size of a file or folder in bytes, or why there is none; what is empty counts as missing."""
    try:
        size = path.stat().st_size if path.is_file() else sum(_sizes(path))
    except FileNotFoundError:
        size = 0
    except OSError as error:
        return {"reason": "Unreadable", "message": f"{path} cannot be read: {error.strerror}"}
    if not size:
        return {"reason": "SourceNotFound", "message": f"{path} does not exist or is empty"}
    return {"found": True, "bytes": size}


def _sizes(folder: Path) -> list[int]:
    if not folder.exists():
        return []
    return [
        (Path(root) / name).stat().st_size
        for root, _, names in os.walk(folder)
        for name in names
        if (Path(root) / name).is_file()
    ]


def write_report(report: Report, environment: Mapping[str, str] = os.environ) -> None:
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
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m flexinfer.prefetcher.check PATH\n")
        return 2
    report = check_path(Path(arguments[0]))
    write_report(report)
    if "found" in report:
        return 0
    return NOT_FOUND if report["reason"] == "SourceNotFound" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
