"""`python -m flexinfer.prefetcher.check PATH`: look whether something is there, with the mounts that the engine will have.

Runs inside a Job. It imports nothing but the standard library, so that it is over in the time of one process start. Its last line, which
is also its termination message, is a JSON object.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPORT = "/dev/termination-log"
NOT_FOUND = 3
MOUNTS_VARIABLE = "FLEXINFER_MOUNTS"
"""On the local node a process has no mounts of its own: this JSON object says where its paths really lie."""


def look(path: Path) -> dict[str, Any]:
    """Return how many bytes lie at a path, or that nothing does; an empty file or folder is nothing."""
    try:
        size = path.stat().st_size if path.is_file() else sum(_sizes(path))
    except FileNotFoundError:
        size = 0
    except OSError as error:
        return {"reason": "Unreadable", "message": f"{path} cannot be read: {error.strerror}"}
    if not size:
        return {"reason": "SourceNotFound", "message": f"{path} is not there, or is empty"}
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


def tell(report: dict[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Leave the report where Kubernetes looks for it, and as the last line of the log."""
    line = json.dumps(report)
    with contextlib.suppress(OSError, ValueError):
        mounts = json.loads(environment.get(MOUNTS_VARIABLE, "{}"))
        if REPORT in mounts or Path(REPORT).is_file():
            Path(mounts.get(REPORT, REPORT)).write_text(line)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Look, tell, and return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m flexinfer.prefetcher.check PATH\n")
        return 2
    report = look(Path(arguments[0]))
    tell(report)
    if "found" in report:
        return 0
    return NOT_FOUND if report["reason"] == "SourceNotFound" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
