"""The Hugging Face hub: which files a selection names, where their bytes are, and the small ones among them.

Everything here blocks, and goes through huggingface_hub: its token, its endpoint, its proxy and certificates. Only its HfApi is not
used, which takes as long to import as all else of it: the one request that it would make is described at
https://huggingface.co/docs/hub/api#get-apimodelsrepoid-or-apimodelsrepoidrevisionrevision.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import huggingface_hub as hub
import msgspec
from huggingface_hub import constants, errors
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download import outbound
from flexinfer.prefetcher.download.failure import DownloadError, line, not_json
from flexinfer.prefetcher.download.remote import TOO_MANY_REQUESTS, Listing, Location, RemoteFile
from flexinfer.prefetcher.download.selection import chosen
from flexinfer.prefetcher.download.token import Token
from flexinfer.sources.base import Files

_LISTING_SECONDS = 30.0
_UNAVAILABLE = (
    errors.HTTPError,
    errors.LocalEntryNotFoundError,
    errors.FileMetadataError,
    errors.XetDownloadError,
    ConnectionError,
    TimeoutError,
)


class _Lfs(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class _Sibling(msgspec.Struct, frozen=True, rename="camel"):
    """A file of a repository: of git itself, or of git-lfs."""

    rfilename: str
    size: int | None = None
    blob_id: str | None = None
    lfs: _Lfs | None = None


class _Info(msgspec.Struct, frozen=True):
    """What the hub says of a repository at a revision."""

    sha: str
    siblings: tuple[_Sibling, ...] | None = None


class Repository:
    """The files that a selection names, of a repository of the hub."""

    def __init__(self, selection: Files, token: Token) -> None:
        self._selection, self._token = selection, token
        outbound.use_for_hub()
        self._bearer: str | bool = token.value or False
        """False: no token, also where the machine's own user has one."""

    @property
    def source(self) -> str:
        """The source as spec.source has it."""
        return f"HF://{self.name}"

    @property
    def name(self) -> str:
        """The repository, for people."""
        return self._selection.repository

    def list_files(self) -> Listing:
        """Return what the selection names now."""
        with self._translated():
            info = self._info()
        everything = [_file(sibling) for sibling in info.siblings or ()]
        return Listing(info.sha, *chosen(self._selection, everything))

    def _info(self) -> _Info:
        validate_repo_id(self.name)
        revision = self._selection.revision
        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        url = f"{constants.ENDPOINT}/api/models/{self.name}{at}"
        answer = hub.get_session().get(
            url,
            params={"blobs": True},
            headers=build_hf_headers(token=self._bearer),
            timeout=_LISTING_SECONDS,
        )
        hf_raise_for_status(answer)
        try:
            return read_json(answer.content, _Info)
        except ForeignJsonError as error:
            text = not_json(url, answer.content, "its listing in JSON", error)
            remedy = "correct the mirror (FLEXINFER_HF_ENDPOINT or HF_ENDPOINT), or give the node a way to the hub without a page in between"
            raise self.unavailable(
                f"it answers with no listing of files: {text}. Remedy: {remedy}"
            ) from error

    def locate(self, commit: str, file: RemoteFile) -> Location:
        """Return where a file's bytes are; a token is sent to the hub's own host alone."""
        url = hub.hf_hub_url(self.name, file.path, revision=commit)
        with self._translated():
            metadata = hub.get_hf_file_metadata(url, token=self._bearer)
        headers: dict[str, str] = build_hf_headers(token=self._bearer)
        if urlsplit(metadata.location)[:2] != urlsplit(constants.ENDPOINT)[:2]:
            headers.pop("authorization", None)
        return Location(metadata.location, headers | {"Accept-Encoding": "identity"})

    def fetch_whole(self, commit: str, file: RemoteFile, folder: Path) -> None:
        """Download one file into its place in a folder."""
        with self._translated():
            hub.hf_hub_download(self.name, file.path, revision=commit, local_dir=folder, token=self._bearer)

    def unavailable(self, cause: str) -> DownloadError:
        """Return the error of a hub that does not serve the repository now."""
        message = f"the hub at {constants.ENDPOINT} does not serve {self.name}{outbound.by_way_of(constants.ENDPOINT)}: {cause}"
        return DownloadError(Reason.HUB_UNAVAILABLE, message)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the errors of huggingface_hub into DownloadErrors."""
        try:
            yield
        except errors.GatedRepoError as error:
            raise self._gated() from error
        except errors.RepositoryNotFoundError as error:
            raise self._not_found() from error
        except errors.RevisionNotFoundError as error:
            revision = self._selection.revision or "main"
            message = f"{self.name} has no revision {revision}. Remedy: correct spec.config.hfRevision"
            raise DownloadError(Reason.REVISION_NOT_FOUND, message) from error
        except errors.RemoteEntryNotFoundError as error:
            message = f"a file of {self.name} has disappeared from the hub: {line(error)}"
            raise DownloadError(Reason.FILE_NOT_FOUND, message) from error
        except errors.HfHubHTTPError as error:
            raise self._of_status(error) from error
        except _UNAVAILABLE as error:
            raise self.unavailable(line(error)) from error

    def _gated(self) -> DownloadError:
        """Return the error of a repository that needs consent, or another token."""
        return DownloadError(
            Reason.GATED_REPOSITORY,
            f"{self.name} is gated, and the hub refused it {self._token.how}. Remedy: accept its terms at "
            f"{constants.ENDPOINT}/{self.name}, and {self._token.remedy}",
        )

    def _not_found(self) -> DownloadError:
        return DownloadError(
            Reason.SOURCE_NOT_FOUND,
            f"the hub at {constants.ENDPOINT} has no repository {self.name}, or hides it from a request {self._token.how}. "
            f"Remedy: correct spec.source, or {self._token.remedy}",
        )

    def _of_status(self, error: errors.HfHubHTTPError) -> DownloadError:
        status = error.response.status_code
        if status in (401, 403):
            return self._gated()
        later = error.response.headers.get("Retry-After", "")
        wait = f"; it asks to wait {later}s" if status == TOO_MANY_REQUESTS and later.isdigit() else ""
        return self.unavailable(f"HTTP {status}{wait}")


def _file(sibling: _Sibling) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(
        path=sibling.rfilename,
        size=(lfs.size if lfs is not None else sibling.size) or 0,
        sha256=lfs.sha256 if lfs is not None else "",
        blob=sibling.blob_id or "",
    )
