"""Remote: what has the files of a source. A download asks it which they are, and where their bytes are.

`hub` and `registry` are the two that there are. Their methods block.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

from flexinfer.prefetcher.download.failure import DownloadError

TOO_MANY_REQUESTS = 429


class RemoteFile(NamedTuple):
    """A file of a repository; `sha256` is empty for one that git itself keeps, whose id is `blob`."""

    path: str
    size: int
    sha256: str = ""
    blob: str = ""
    whole: bool = False
    """Whether it comes in one piece although its sha256 is known."""

    @property
    def large(self) -> bool:
        """Whether it is fetched in parts."""
        return bool(self.sha256) and not self.whole


class Listing(NamedTuple):
    """The files of a selection at one commit."""

    commit: str
    files: tuple[RemoteFile, ...]
    left_out: tuple[str, ...] = ()
    """Paths of selected files that are not downloaded, since they can run code."""

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)


class Location(NamedTuple):
    """Where the bytes of a file are, and the headers that a request for them carries."""

    url: str
    headers: dict[str, str]


class Remote(Protocol):
    """A repository with one selection of its files. Every method may raise DownloadError, but for `unavailable`."""

    @property
    def source(self) -> str:
        """The source as spec.source has it."""

    @property
    def name(self) -> str:
        """The repository, for people."""

    def list_files(self) -> Listing:
        """Return what the selection names now."""

    def locate(self, commit: str, file: RemoteFile) -> Location:
        """Return where a file's bytes are; a token is sent to the remote's own host alone."""

    def fetch_whole(self, commit: str, file: RemoteFile, folder: Path) -> None:
        """Download one file into its place in a folder."""

    def unavailable(self, cause: str) -> DownloadError:
        """Return the error of a remote that does not serve the repository now."""
