"""DownloadError: why a download ended, with the reason of the condition; and the errors of disks as such."""

import errno
from pathlib import Path

from flexinfer.api.reason import Reason

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LIMIT = 300
_BEGINNING = 60


class DownloadError(Exception):
    """A download cannot continue; `reason` and message are those of the report, `lacks` the bytes that the volume is too small by."""

    def __init__(self, reason: Reason, message: str, lacks: int = 0) -> None:
        super().__init__(message)
        self.reason, self.lacks = reason, lacks


def line(error: BaseException) -> str:
    """Return an error's text on one line; its type if it has none."""
    return " ".join(str(error).split())[:_LIMIT] or type(error).__name__


def of_disk(error: OSError, folder: Path) -> DownloadError:
    """Return the error of a write to a folder."""
    if error.errno in _FULL:
        return DownloadError(
            Reason.DISK_FULL, f"the disk of {folder} became full. Remedy: free space, or use a larger volume"
        )
    return DownloadError(Reason.FETCH_FAILED, f"{folder} cannot be written: {error.strerror or line(error)}")


def first_of(error: BaseException) -> BaseException:
    """Return the first error of a group, of whatever depth; any other error as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def not_json(url: str, content: bytes, form: str, error: Exception) -> str:
    """Return what a remote answered in place of JSON that was asked of it: a page of a network or of a wrong mirror is recognised by its beginning."""
    start = " ".join(content[:_BEGINNING].decode("utf-8", errors="replace").split())
    answer = (
        f'"{start}"'
        if start.isprintable() and start
        else "nothing"
        if not content
        else "bytes that are no text"
    )
    return f"{url} answers with {answer}, where {form} is expected ({line(error)})"
