"""The Hugging Face hub: which files a selection names, where their bytes are, and the small ones among them.

Everything here blocks, and goes through huggingface_hub: its token, its endpoint, its proxy and certificates.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub as hub
from huggingface_hub import constants, errors
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download.failure import DownloadError, line
from flexinfer.prefetcher.download.remote import TOO_MANY_REQUESTS, Listing, Location, RemoteFile
from flexinfer.sources.base import Files

_MISSING_SHOWN = 5
_LONGEST_NAME = 255
_LISTING_SECONDS = 30.0
_UNAVAILABLE = (
    errors.HTTPError,
    errors.LocalEntryNotFoundError,
    errors.FileMetadataError,
    errors.XetDownloadError,
    ConnectionError,
    TimeoutError,
)


class Repository:
    """The files that a selection names, of a repository of the hub."""

    def __init__(self, selection: Files) -> None:
        self._selection = selection

    @property
    def source(self) -> str:
        """The source as spec.source has it."""
        return f"HF://{self._selection.repository}"

    @property
    def name(self) -> str:
        """The repository, for people."""
        return self._selection.repository

    def list_files(self) -> Listing:
        """Return what the selection names now."""
        return list_files(self._selection)

    def locate(self, commit: str, file: RemoteFile) -> Location:
        """Return where a file's bytes are; a token is sent to the hub's own host alone."""
        return locate(self._selection, commit, file.path)

    def fetch_whole(self, commit: str, file: RemoteFile, folder: Path) -> None:
        """Download one file into its place in a folder."""
        with translated(self._selection):
            hub.hf_hub_download(self._selection.repository, file.path, revision=commit, local_dir=folder)

    def unavailable(self, cause: str) -> DownloadError:
        """Return the error of a hub that does not serve the repository now."""
        return unavailable(self._selection.repository, cause)


def list_files(selection: Files) -> Listing:
    """Return what a selection names now. Raises DownloadError."""
    with translated(selection):
        info = hub.HfApi().model_info(
            selection.repository,
            revision=selection.revision or None,
            files_metadata=True,
            timeout=_LISTING_SECONDS,
        )
    everything = [_file(sibling) for sibling in info.siblings or ()]
    chosen = tuple(file for file in everything if selected(selection, file.path))
    _refuse_missing(selection, {file.path for file in everything}, chosen)
    for file in chosen:
        _refuse_unsafe(selection, file.path)
    return Listing(str(info.sha), chosen)


def _file(sibling: RepoSibling) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(
        path=str(sibling.rfilename),
        size=int((lfs.size if lfs is not None else sibling.size) or 0),
        sha256=str(lfs.sha256) if lfs is not None else "",
        blob=str(sibling.blob_id or ""),
    )


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


def locate(selection: Files, commit: str, path: str) -> Location:
    """Return where a file's bytes are; a token is sent to the hub's own host alone. Raises DownloadError."""
    url = hub.hf_hub_url(selection.repository, path, revision=commit)
    with translated(selection):
        metadata = hub.get_hf_file_metadata(url)
    headers: dict[str, str] = build_hf_headers()
    if urlsplit(metadata.location)[:2] != urlsplit(constants.ENDPOINT)[:2]:
        headers.pop("authorization", None)
    return Location(metadata.location, headers | {"Accept-Encoding": "identity"})


@contextmanager
def translated(selection: Files) -> Iterator[None]:
    """Turn the errors of huggingface_hub into DownloadErrors."""
    repository = selection.repository
    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(Reason.GATED_REPOSITORY, gated(repository)) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(Reason.SOURCE_NOT_FOUND, _no_repository(repository)) from error
    except errors.RevisionNotFoundError as error:
        message = f"{repository} has no revision {selection.revision or 'main'}. Remedy: correct spec.config.hfRevision"
        raise DownloadError(Reason.REVISION_NOT_FOUND, message) from error
    except errors.RemoteEntryNotFoundError as error:
        message = f"a file of {repository} has disappeared from the hub: {line(error)}"
        raise DownloadError(Reason.FILE_NOT_FOUND, message) from error
    except errors.HfHubHTTPError as error:
        raise _of_status(repository, error) from error
    except _UNAVAILABLE as error:
        raise unavailable(repository, line(error)) from error


def unavailable(repository: str, cause: str) -> DownloadError:
    """Return the error of a hub that does not serve a repository now."""
    message = f"the hub at {constants.ENDPOINT} does not serve {repository}: {cause}"
    return DownloadError(Reason.HUB_UNAVAILABLE, message)


def gated(repository: str) -> str:
    """Return the message of a repository that needs consent, or another token."""
    return (
        f"{repository} is gated, and the hub refused it {_token()}. Remedy: accept its terms at "
        f"{constants.ENDPOINT}/{repository}, and put a token of that account into the Secret hf-token, key HF_TOKEN"
    )


def _no_repository(repository: str) -> str:
    return (
        f"the hub at {constants.ENDPOINT} has no repository {repository}, or hides it from a request {_token()}. "
        "Remedy: correct spec.source, or put a token that may read it into the Secret hf-token, key HF_TOKEN"
    )


def _token() -> str:
    return "with the token of the Secret hf-token" if hub.get_token() else "without a token"


def _of_status(repository: str, error: errors.HfHubHTTPError) -> DownloadError:
    status = error.response.status_code
    if status in (401, 403):
        return DownloadError(Reason.GATED_REPOSITORY, gated(repository))
    later = error.response.headers.get("Retry-After", "")
    wait = f"; it asks to wait {later}s" if status == TOO_MANY_REQUESTS and later.isdigit() else ""
    return unavailable(repository, f"HTTP {status}{wait}")
