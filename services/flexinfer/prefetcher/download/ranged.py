"""The ranged download: several parts of large files at a time, each by a request for its bytes.

A part whose connection breaks continues from its last byte, for as long as any byte comes: only a silence of all streams
ends the download. A killed process has lost what was in flight, one part a stream.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

import aiohttp

from flexinfer.api.durations import back_off
from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download import outbound
from flexinfer.prefetcher.download.blob import Blob
from flexinfer.prefetcher.download.failure import DownloadError, line
from flexinfer.prefetcher.download.progress import Progress
from flexinfer.prefetcher.download.remote import TOO_MANY_REQUESTS, Location, RemoteFile

T = TypeVar("T")
STREAMS = 8
"""Requests at a time."""
BLOCK = 2**20
"""Bytes that a stream collects before it writes them: with STREAMS, what the download holds in memory. Each is handed to another thread, which
costs time; a block of 4 MiB costs more: 32 MiB that are freed and taken again all the time come from the kernel, page by page."""
_READ = 2**18
"""Bytes that a connection reads ahead."""
_FIRST_BACK_OFF, _LONGEST_BACK_OFF, _LONGEST_WAIT = 0.5, 10.0, 60.0
_WATCH_SECONDS = 0.1
_REFUSED = (401, 403, 404, 410)
"""Statuses of an address that has expired: it is asked for again."""


class WholeOnlyError(Exception):
    """The hub answers a request for a part with the whole file."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file.path)
        self.file = file


class _PartError(Exception):
    """A request for a part failed; `wait` is what the hub asks for, in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


_BROKEN = (aiohttp.ClientError, ConnectionError, TimeoutError, _PartError)


class Ranged:
    """Downloads blobs. `locate` returns where a file is; `stall` is the longest silence in seconds."""

    def __init__(
        self,
        locate: Callable[[RemoteFile], Awaitable[Location]],
        progress: Progress,
        *,
        stall: float,
        failed: Callable[[str], DownloadError],
    ) -> None:
        self._locate, self._progress, self._stall, self._failed = locate, progress, stall, failed
        self._locations: dict[str, Location] = {}
        self._locating = asyncio.Lock()
        self._hashing: dict[str, asyncio.Lock] = {}
        self._threads = ThreadPoolExecutor(STREAMS)
        self._cause = ""

    async def fetch(self, blobs: Sequence[Blob]) -> None:
        """Return once all blobs are complete. Raises an ExceptionGroup of DownloadError or WholeOnlyError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._stall / 3, sock_read=self._stall / 3)
        # aiohttp's own context was made when it was imported, before `authorities.use`.
        connector = aiohttp.TCPConnector(limit=STREAMS, ssl=outbound.tls())
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=timeout,
                    request_class=outbound.Request,
                    auto_decompress=False,
                    read_bufsize=_READ,
                ) as session,
                asyncio.TaskGroup() as group,
            ):
                watch = group.create_task(self._watch())
                await self._all(session, blobs)
                watch.cancel()
        finally:
            self._threads.shutdown()  # no write may reach a file's number once that is closed
            for blob in blobs:
                blob.close()

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _all(self, session: aiohttp.ClientSession, blobs: Sequence[Blob]) -> None:
        work = _parts(blobs)
        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(self._stream(session, work))

    async def _watch(self) -> None:
        """Raise DownloadError once no byte has come for too long."""
        silent = self._progress.silent()
        while silent < self._stall:
            await asyncio.sleep(max(_WATCH_SECONDS, self._stall - silent))
            silent = self._progress.silent()
        if self._cause:
            raise self._failed(f"no byte came for {silent:.0f}s; the last error was: {self._cause}")
        done, total = self._progress.done, self._progress.total
        raise DownloadError(
            Reason.STALLED_DOWNLOAD,
            f"no byte came for {silent:.0f}s, after {done:,} of {total:,} bytes; the connections stayed open",
        )

    async def _stream(self, session: aiohttp.ClientSession, work: Iterator[tuple[Blob, int]]) -> None:
        for blob, index in work:
            if index >= 0:
                await self._part(session, blob, index)
                await self._blocking(functools.partial(blob.record, index))
            await self._hash(blob)

    async def _hash(self, blob: Blob) -> None:
        """Take the digest as far as parts have come, and end the file after the last; one stream does it at a time."""
        lock = self._hashing.setdefault(blob.file.sha256, asyncio.Lock())
        if lock.locked() and blob.missing:
            return  # the stream that holds it, or a later one, continues
        async with lock:
            while await self._blocking(blob.hash_some):
                pass
            if blob.hashed and not blob.complete.exists() and not await self._blocking(blob.finish):
                raise DownloadError(
                    Reason.CHECKSUM_MISMATCH,
                    f"{blob.file.path} of {blob.file.size:,} bytes came with another sha256 than {blob.file.sha256}; "
                    "it was deleted",
                )

    async def _part(self, session: aiohttp.ClientSession, blob: Blob, index: int) -> None:
        """Write the bytes of a part, however many requests that takes."""
        position, end = blob.span(index)
        failures = 0
        while position < end:
            try:
                async for block in self._blocks(session, blob.file, position, end):
                    await self._blocking(functools.partial(blob.write, position, block))
                    position, failures, self._cause = position + sum(map(len, block)), 0, ""
            except _BROKEN as error:
                self._note(error)
                failures += 1
                await asyncio.sleep(_back_off(failures, error))

    def _note(self, error: Exception) -> None:
        """Keep an error as the cause of a silence; a connection that says nothing is not an error of its own."""
        if not isinstance(error, TimeoutError):
            self._cause = line(error)

    async def _blocks(
        self, session: aiohttp.ClientSession, file: RemoteFile, position: int, end: int
    ) -> AsyncIterator[list[bytes]]:
        """Yield the bytes from a position up to an end, as far as one request brings them, in the pieces that came."""
        location = await self._location(file)
        headers = location.headers | {"Range": f"bytes={position}-{end - 1}"}
        cause: Exception | None = None
        pieces: list[bytes] = []
        count = 0
        async with session.get(location.url, headers=headers) as response:
            self._refuse(file, response, position)
            try:
                async for data in response.content.iter_any():
                    self._progress.add(len(data), file.path)
                    pieces.append(data)
                    position, count = position + len(data), count + len(data)
                    if position <= end and count >= BLOCK:
                        yield pieces
                        pieces, count = [], 0
            except _BROKEN as error:
                cause = error
        if position > end:
            self._progress.add(-count, file.path)
            raise _PartError("more bytes came than were asked for")
        if pieces:
            yield pieces
        if cause is not None or position < end:
            raise cause or _PartError("the connection was closed early")

    async def _location(self, file: RemoteFile) -> Location:
        async with self._locating:
            if file.sha256 not in self._locations:
                try:
                    self._locations[file.sha256] = await self._locate(file)
                except DownloadError as error:
                    if error.reason == Reason.HUB_UNAVAILABLE:
                        raise _PartError(str(error)) from error
                    raise
            return self._locations[file.sha256]

    def _refuse(self, file: RemoteFile, response: aiohttp.ClientResponse, position: int) -> None:
        """Raise _PartError unless the answer is the part, WholeOnlyError if it is everything."""
        if response.status == HTTPStatus.OK:
            raise WholeOnlyError(file)
        if response.status in _REFUSED:
            self._locations.pop(file.sha256, None)
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            later = response.headers.get("Retry-After", "")
            wait = float(later) if response.status == TOO_MANY_REQUESTS and later.isdecimal() else 0.0
            raise _PartError(f"HTTP {response.status} for {file.path}", wait)
        if not response.headers.get("Content-Range", "").startswith(f"bytes {position}-"):
            raise _PartError(f"another part of {file.path} than was asked for")


def _parts(blobs: Iterable[Blob]) -> Iterator[tuple[Blob, int]]:
    """Yield the missing parts of each blob, and -1 for one whose parts are all there."""
    for blob in blobs:
        if blob.complete.exists():
            continue
        blob.open()
        for index in blob.missing or [-1]:
            yield blob, index


def _back_off(failures: int, error: Exception) -> float:
    wait = error.wait if isinstance(error, _PartError) else 0.0
    return min(_LONGEST_WAIT, max(wait, back_off(_FIRST_BACK_OFF, failures - 1, _LONGEST_BACK_OFF)))
