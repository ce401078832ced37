"""Which files of a repository a selection names, and which of them no download takes."""

from fnmatch import fnmatchcase

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download import unsafe
from flexinfer.prefetcher.download.failure import DownloadError
from flexinfer.prefetcher.download.remote import RemoteFile
from flexinfer.sources.base import Files

MOST_FILES = 5000
"""Files of a download: each small one is a request of its own."""
_MISSING_SHOWN = 5
_LONGEST_NAME = 255


def chosen(selection: Files, everything: list[RemoteFile]) -> tuple[tuple[RemoteFile, ...], tuple[str, ...]]:
    """Return the files of a repository that a selection names, and the paths of those that are left out as unsafe. Raises DownloadError."""
    files = tuple(file for file in everything if selected(selection, file.path))
    _refuse_missing(selection, {file.path for file in everything}, files)
    left_out = () if selection.unsafe else tuple(f.path for f in files if unsafe.is_unsafe(f.path))
    files = tuple(file for file in files if file.path not in left_out)
    if len(files) > MOST_FILES:
        raise DownloadError(
            Reason.FETCH_FAILED,
            f"{selection.repository} has {len(files):,} files of this selection, and at most {MOST_FILES:,} are downloaded. "
            "Remedy: choose fewer by spec.config.hfAllowPatterns",
        )
    _refuse_code(selection, files, left_out)
    for file in files:
        _refuse_path(selection, file.path)
    return files, left_out


def _refuse_code(selection: Files, files: tuple[RemoteFile, ...], left_out: tuple[str, ...]) -> None:
    """Raise DownloadError where what can run code is named, or where nothing to load is left without it."""
    named_paths = [path for path in left_out if path in selection.names]
    without = not unsafe.has_weights(file.path for file in files) and any(map(unsafe.is_pickle, left_out))
    if named_paths or without or (left_out and not files):
        state = "is named" if named_paths else "holds its weights in no safe format"
        subject = "spec.config" if named_paths else selection.repository
        raise DownloadError(
            Reason.UNSAFE_FORMAT,
            f"{selection.repository} has {unsafe.shown(named_paths or left_out)}, and {'one of them' if named_paths else 'it'} {state}"
            f"{f' in {subject}' if named_paths else ''}. Remedy: choose a repository with .safetensors or .gguf files, or, if you trust "
            "its authors with your cluster, set spec.config.allowUnsafeFormats: true",
        )


def selected(selection: Files, path: str) -> bool:
    """Return whether a selection names a file: by its name, or by a pattern while it is not ignored."""
    if path in selection.names:
        return True
    if selection.names and not selection.allow:
        return False
    is_allowed = not selection.allow or _matches(path, selection.allow)
    return is_allowed and not _matches(path, selection.ignore)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)


def _refuse_missing(selection: Files, existing: set[str], files: tuple[RemoteFile, ...]) -> None:
    """Raise DownloadError for a file that is named and missing, and for patterns that nothing matches."""
    missing = [name for name in selection.names if name not in existing]
    if missing:
        names = ", ".join(missing[:_MISSING_SHOWN])
        alike = sorted(name for name in existing if name.endswith(".gguf"))[:_MISSING_SHOWN]
        others = f"; it has {', '.join(alike)}" if alike else ""
        raise DownloadError(
            Reason.FILE_NOT_FOUND,
            f"{selection.repository} has no file {names} at revision {selection.revision or 'main'}{others}. "
            "Remedy: correct the name in spec.config",
        )
    if not files:
        patterns = ", ".join(selection.allow) or "any name"
        raise DownloadError(
            Reason.FILE_NOT_FOUND,
            f"none of the {len(existing)} files of {selection.repository} matches {patterns}. "
            "Remedy: correct spec.config.hfAllowPatterns or hfIgnorePatterns",
        )


def _refuse_path(selection: Files, path: str) -> None:
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
