"""JobReport: the result that the program of a Job leaves as its termination message. Pure."""

from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import CACHED
from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.headers import Headers
from flexinfer.api.numbers import bounded
from flexinfer.api.reasons import FACTS, Reason
from flexinfer.events.workload import JobFacts

_COMPLETE = (Reason.CACHED, Reason.CACHED_UNSAFE, Reason.IN_IMAGE)
_REVISION_LIMIT = 256
"""Characters of status.cache.revision."""
_NAME_LIMIT, _LARGEST_FIGURE = 64, 2**53
"""Characters of a text, and the largest number, of status.cache.headers."""
_FILES_LIMIT = 512
"""Characters of a list of files in a message."""
_LOG_TAIL = 300
"""Characters of a log that stand for the cause when a Job ended without a report."""


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report; `bytes`, `revision` and `headers` describe complete weights, `reason` and `message` a failure."""

    bytes: int = 0
    revision: str = ""
    reason: str = ""
    message: str = ""
    unsafe: str = ""
    """What of the weights can run code when it is loaded, for people."""
    left_out: str = ""
    """What was not downloaded since it can run code, for people."""
    headers: Headers | None = None
    lacks: int = 0
    """The bytes that the volume is too small by; 0 if it is not, or if that is unknown."""

    @property
    def not_found(self) -> bool:
        """Whether the source does not exist, as opposed to a failure of the Job."""
        return self.reason == Reason.SOURCE_NOT_FOUND

    @property
    def condition_reason(self) -> Reason:
        """The reason of the condition: the report's own if Cached may have it."""
        rows = (row for row in Reason if row == self.reason and row not in _COMPLETE)
        return next((row for row in rows if CACHED in FACTS[row].conditions), Reason.FETCH_FAILED)


def report_of(job: JobFacts) -> JobReport:
    """Return the report of a Job: the last line of its Pod's message that is one; empty if there is none.

    The program may be an engine's image, which can write anything: numbers and texts are cut to what
    status.cache may hold.
    """
    for line in reversed(job.report.splitlines()):
        try:
            report = read_json(line, JobReport)
        except ForeignJsonError:
            continue
        return _within_limits(report)
    return JobReport()


def _within_limits(report: JobReport) -> JobReport:
    revision = conditions.one_line(report.revision)[:_REVISION_LIMIT]
    return msgspec.structs.replace(
        report,
        bytes=max(0, bounded(report.bytes)),
        lacks=max(0, min(report.lacks, _LARGEST_FIGURE)),
        revision=revision,
        unsafe=conditions.one_line(report.unsafe)[:_FILES_LIMIT],
        left_out=conditions.one_line(report.left_out)[:_FILES_LIMIT],
        headers=_headers(report.headers) if report.headers is not None else None,
    )


def _headers(headers: Headers) -> Headers | None:
    """Return figures within the limits of the status; None for those of no weights at all."""
    fields: dict[str, Any] = {
        name: conditions.one_line(value)[:_NAME_LIMIT]
        if isinstance(value, str)
        else max(0, min(value, _LARGEST_FIGURE))
        for name, value in msgspec.structs.asdict(headers).items()
    }
    return Headers(**fields) if fields["weights_mb"] else None


def failure_cause(job: JobFacts) -> str:
    """Return why a Job failed: its report's message, else the end of its log, else the Job's condition."""
    return report_of(job).message or job.report.strip()[-_LOG_TAIL:] or job.failed_reason
