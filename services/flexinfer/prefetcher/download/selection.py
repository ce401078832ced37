"""Which files of a repository a selection names, and which of them no download takes."""

from fnmatch import fnmatchcase

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download.failure import DownloadError
from flexinfer.prefetcher.download.remote import RemoteFile
from flexinfer.sources.base import Files

_MISSING_SHOWN = 5
_LONGEST_NAME = 255


def chosen(selection: Files, everything: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files of a repository that a selection names. Raises DownloadError."""
    files = tuple(file for file in everything if selected(selection, file.path))
    _refuse_missing(selection, {file.path for file in everything}, files)
    for file in files:
        _refuse_unsafe(selection, file.path)
    return files


def selected(selection: Files, path: str) -> bool:
    """Tell whether a selection names a file: by its name, or by a pattern while it is not ignored."""
    if path in selection.names:
        return True
    if selection.names and not selection.allow:
        return False
    allowed = not selection.allow or _matches(path, selection.allow)
    return allowed and not _matches(path, selection.ignore)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)


def _refuse_missing(selection: Files, existing: set[str], chosen: tuple[RemoteFile, ...]) -> None:
    """Raise DownloadError for a file that is named and missing, and for patterns that nothing matches."""
    missing = [name for name in selection.names if name not in existing]
    if missing:
        shown = ", ".join(missing[:_MISSING_SHOWN])
        alike = sorted(name for name in existing if name.endswith(".gguf"))[:_MISSING_SHOWN]
        others = f"; it has {', '.join(alike)}" if alike else ""
        raise DownloadError(
            Reason.FILE_NOT_FOUND,
            f"{selection.repository} has no file {shown} at revision {selection.revision or 'main'}{others}. "
            "Remedy: correct the name in spec.config",
        )
    if not chosen:
        patterns = ", ".join(selection.allow) or "any name"
        raise DownloadError(
            Reason.FILE_NOT_FOUND,
            f"none of the {len(existing)} files of {selection.repository} matches {patterns}. "
            "Remedy: correct spec.config.hfAllowPatterns or hfIgnorePatterns",
        )


def _refuse_unsafe(selection: Files, path: str) -> None:
    """Raise DownloadError for a path that could leave the folder, or not be made."""
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise DownloadError(
            Reason.FETCH_FAILED, f"{selection.repository} holds a file with an unsafe path: {path!r}"
        )
    if any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise DownloadError(
            Reason.FETCH_FAILED, f"{selection.repository} holds a name of more than 255 bytes: {path[:80]!r}"
        )
