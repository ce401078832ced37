"""`python -m flexinfer.prefetcher.verify FOLDER`: read every file of a complete folder again, and compare it with the manifest beside them.

Runs inside a Job that `flexinfer verify` makes, with the volume read-only. The last line of its output is the report.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.check import NOT_FOUND, JobReport, write_report
from flexinfer.prefetcher.download import manifest as manifests
from flexinfer.prefetcher.download.manifest import Manifest

_SHOWN = 5


def report_on(folder: Path) -> JobReport:
    """Return what a folder holds as its manifest says, or which files are others."""
    manifest = manifests.read(folder)
    if manifest is None:
        return {"reason": Reason.SOURCE_NOT_FOUND, "message": f"{folder} has no manifest {manifests.NAME}"}
    faults = list(_faults(folder, manifest))
    if not faults:
        return {"revision": manifest.commit, "bytes": manifest.bytes, "files": len(manifest.files)}
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    message = f"{len(faults)} of {len(manifest.files)} files are not those that were downloaded: {', '.join(faults[:_SHOWN])}{more}"
    return {"reason": Reason.CHECKSUM_MISMATCH, "message": message}


def _faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the path of each file that is another one, and why."""
    for file in manifest.files:
        path = folder / file.path
        try:
            size = path.stat().st_size
            if size != file.size:
                yield f"{file.path} ({size:,} bytes, not {file.size:,})"
            elif manifests.sha256(path) != file.sha256:
                yield f"{file.path} (another sha256)"
        except OSError as error:
            yield f"{file.path} ({error.strerror})"


def main(arguments: Sequence[str]) -> int:
    """Verify, write the report, and return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m flexinfer.prefetcher.verify FOLDER\n")
        return 2
    report = report_on(Path(arguments[0]))
    write_report(report)
    if "reason" not in report:
        return 0
    return NOT_FOUND if report["reason"] == Reason.SOURCE_NOT_FOUND else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
