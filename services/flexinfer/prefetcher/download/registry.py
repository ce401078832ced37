"""An Ollama registry: the layers of a model and its manifest, as the files of Ollama's own store.

The store is `blobs/sha256-<digest>` and `manifests/<host>/<namespace>/<model>/<tag>`, the protocol that of
https://distribution.github.io/distribution/spec/api/ as Ollama's client uses it:
https://github.com/ollama/ollama/blob/main/server/images.go. Everything here blocks.
"""

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urljoin, urlsplit

import msgspec

from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download import outbound
from flexinfer.prefetcher.download.failure import DownloadError, line, not_json, of_disk
from flexinfer.prefetcher.download.remote import TOO_MANY_REQUESTS, Listing, Location, RemoteFile
from flexinfer.prefetcher.download.token import Token
from flexinfer.sources.base import Files
from flexinfer.sources.ollama import REGISTRY, Name

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_SECONDS = 30.0
_REDIRECTS = range(300, 400)
_LARGEST_MANIFEST, _MOST_LAYERS = 4 * 2**20, 10_000


class _Layer(msgspec.Struct, frozen=True):
    digest: Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Manifest(msgspec.Struct, frozen=True):
    layers: Annotated[tuple[_Layer, ...], msgspec.Meta(min_length=1, max_length=_MOST_LAYERS)]
    config: _Layer | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Raises HTTPError for an answer that names another address, so that the address can be read."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


class Registry:
    """The model that a selection names, in its registry; `mirror` is the address that stands for Ollama's own registry."""

    def __init__(self, selection: Files, token: Token, mirror: str = "", hub: str = "") -> None:
        namespace, _, model = selection.repository.partition("/")
        self._name = Name(selection.registry, namespace, model, selection.revision)
        self._address = (mirror if selection.registry == REGISTRY else hub) or f"https://{selection.registry}"
        self._base = f"{self._address.rstrip('/')}/v2/{selection.repository}"
        self._token = token
        self._manifest = b""

    @property
    def source(self) -> str:
        """The source as spec.source has it."""
        return f"ollama://{self.name}"

    @property
    def name(self) -> str:
        """The name that Ollama lists the model by."""
        return self._name.short

    def list_files(self) -> Listing:
        """Return the layers of the model and its manifest, whose digest is the commit."""
        url = f"{self._base}/manifests/{self._name.tag}"
        with self._open(url, {"Accept": MANIFEST_TYPE}) as answer:
            self._manifest = answer.read(_LARGEST_MANIFEST)
        try:
            manifest = read_json(self._manifest, _Manifest)
        except ForeignJsonError as error:
            text = not_json(url, self._manifest, "a manifest in JSON", error)
            remedy = "correct the mirror (FLEXINFER_OLLAMA_REGISTRY) or spec.source, or give the node a way to the registry without a page in between"
            self._refuse(
                Reason.FETCH_FAILED, f"answers with no manifest of {self.name}: {text}. Remedy: {remedy}"
            )
        layers = (*manifest.layers, *((manifest.config,) if manifest.config is not None else ()))
        commit = hashlib.sha256(self._manifest).hexdigest()
        path = f"manifests/{'/'.join(self._name)}"
        own = RemoteFile(path, len(self._manifest), commit, whole=True)
        return Listing(commit, (*dict.fromkeys(map(_file, layers)), own))

    def locate(self, _commit: str, file: RemoteFile) -> Location:
        """Return where a layer's bytes are: the address that the registry sends its clients to, or its own."""
        url = self._blob(file)
        try:
            with self._open(url, {"Range": "bytes=0-0"}, _NoRedirect()):
                return Location(url, {"Accept-Encoding": "identity", **self._authorization()})
        except urllib.error.HTTPError as redirect:
            with redirect:
                target = urljoin(url, redirect.headers.get("Location", ""))
        if urlsplit(target).scheme not in ("http", "https"):
            self._refuse(Reason.FETCH_FAILED, f"sends the request for {file.path} to {target[:80]!r}")
        own = urlsplit(target)[:2] == urlsplit(self._address)[:2]
        return Location(target, {"Accept-Encoding": "identity", **(self._authorization() if own else {})})

    def fetch_whole(self, _commit: str, file: RemoteFile, folder: Path) -> None:
        """Write one file: the manifest as it came, a layer by one request."""
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.whole:
            target.write_bytes(self._manifest)
            return
        with self._open(self._blob(file), {"Accept-Encoding": "identity"}) as answer:
            self._copy(answer, target)

    def unavailable(self, cause: str) -> DownloadError:
        """Return the error of a registry that does not serve the model now."""
        message = f"the registry at {self._address} does not serve {self.name}{outbound.by_way_of(self._address)}: {cause}"
        return DownloadError(Reason.HUB_UNAVAILABLE, message)

    def _copy(self, answer: http.client.HTTPResponse, target: Path) -> None:
        try:
            with target.open("wb") as file:
                shutil.copyfileobj(answer, file, 2**20)
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise self.unavailable(line(error)) from error
        except OSError as error:
            raise of_disk(error, target.parent) from error

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.value}"} if self._token.value else {}

    def _blob(self, file: RemoteFile) -> str:
        return f"{self._base}/blobs/sha256:{file.sha256}"

    @contextmanager
    def _open(
        self, url: str, headers: Mapping[str, str], *handlers: urllib.request.BaseHandler
    ) -> Iterator[http.client.HTTPResponse]:
        """Yield an answer. Raises DownloadError, and HTTPError for a redirect if a handler follows none."""
        all_headers = {"User-Agent": "flexinfer", **headers}
        request = urllib.request.Request(url, headers=all_headers)  # noqa: S310 -- the address of a setting, else https
        for name, value in self._authorization().items():
            request.add_unredirected_header(name, value)
        try:
            with urllib.request.build_opener(outbound.Handler(), *handlers).open(
                request, timeout=_SECONDS
            ) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            if error.code in _REDIRECTS and handlers:
                raise
            with error:
                raise self._of_status(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self.unavailable(line(error)) from error

    def _of_status(self, error: urllib.error.HTTPError) -> DownloadError:
        where = f"the registry at {self._address}"
        if error.code == HTTPStatus.NOT_FOUND:
            remedy = "correct spec.source; https://ollama.com/search lists names and their tags"
            return DownloadError(Reason.SOURCE_NOT_FOUND, f"{where} has no {self.name}. Remedy: {remedy}")
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return DownloadError(
                Reason.GATED_REPOSITORY,
                f"{where} refuses {self.name} {self._token.how}: HTTP {error.code}. Remedy: {self._token.remedy}",
            )
        later = error.headers.get("Retry-After", "")
        wait = f"; it asks to wait {later}s" if error.code == TOO_MANY_REQUESTS and later.isdecimal() else ""
        return self.unavailable(f"HTTP {error.code}{wait}")

    def _refuse(self, reason: Reason, state: str) -> NoReturn:
        raise DownloadError(reason, f"the registry at {self._address} {state}")


def _file(layer: _Layer) -> RemoteFile:
    digest = layer.digest.removeprefix("sha256:")
    return RemoteFile(f"blobs/sha256-{digest}", layer.size, digest)
