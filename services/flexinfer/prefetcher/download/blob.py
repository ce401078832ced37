"""Blob: a file that is downloaded in parts, beside a journal of the parts that are there.

`<sha256>.part` has the size of the whole from the start, `<sha256>.journal` one line a part that was written. Both stand
under the file's own digest, so parts of another file are never taken for its own, whatever a revision has moved to. The
journal survives the end of the process, not that of the machine: what a node lost is noticed by the digest.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from flexinfer.prefetcher.download.failure import of_disk
from flexinfer.prefetcher.download.remote import RemoteFile

PART = 4 * 2**20
"""Bytes of a part: what a kill costs at most, for each stream."""
_HASHED_AT_ONCE = 16
"""Parts whose digest is taken without a pause."""
_MOST_PIECES = 512
"""Of a write; Linux takes 1024 (IOV_MAX)."""


class Blob:
    """One file in the folder `folder`. The methods block. Raises DownloadError where the disk does not serve."""

    def __init__(self, file: RemoteFile, folder: Path) -> None:
        self.file = file
        self.complete = folder / file.sha256
        """Where the file is once its digest was verified."""
        self._part = folder / f"{file.sha256}.part"
        self._journal = folder / f"{file.sha256}.journal"
        self.parts = -(-file.size // PART)
        self._done = self._recorded()
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._file = self._log = -1

    def _recorded(self) -> set[int]:
        """Return the parts that are there; none if the file itself is not."""
        try:
            if self._part.stat().st_size != self.file.size:
                return set()
            lines = self._journal.read_text().split("\n")[:-1]  # what follows the last newline was cut off
        except OSError:
            return set()
        return {int(text) for text in lines if text.isdecimal() and int(text) < self.parts}

    @property
    def missing(self) -> list[int]:
        """The parts that are not there."""
        return [index for index in range(self.parts) if index not in self._done]

    @property
    def present(self) -> int:
        """The bytes that are there."""
        if self.complete.exists():
            return self.file.size
        return sum(end - start for start, end in map(self.span, self._done))

    def span(self, index: int) -> tuple[int, int]:
        """Return where a part begins and ends."""
        return index * PART, min(self.file.size, (index + 1) * PART)

    def open(self) -> None:
        """Make both files, or continue with them. Raises DownloadError."""
        try:
            flag = os.O_TRUNC if not self._done else 0
            self._log = os.open(self._journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND | flag, 0o644)
            self._file = os.open(self._part, os.O_CREAT | os.O_RDWR | flag, 0o644)
            os.ftruncate(self._file, self.file.size)
        except OSError as error:
            raise of_disk(error, self._part.parent) from error

    def write(self, position: int, pieces: Sequence[bytes]) -> None:
        """Write bytes of a part, which came in pieces: none of them is copied. Raises DownloadError."""
        rest = [memoryview(piece) for piece in pieces]
        try:
            while rest:
                count = os.pwritev(self._file, rest[:_MOST_PIECES], position)
                position, rest = position + count, _after(rest, count)
        except OSError as error:
            raise of_disk(error, self._part.parent) from error

    def record(self, index: int) -> None:
        """Record that all bytes of a part were written. Raises DownloadError."""
        try:
            os.write(self._log, f"{index}\n".encode())
        except OSError as error:
            raise of_disk(error, self._part.parent) from error
        self._done.add(index)

    def hash_some(self) -> bool:
        """Take the digest of parts that follow those it was taken of; returns whether there may be more."""
        buffer = memoryview(bytearray(min(PART, self.file.size)))
        for _ in range(_HASHED_AT_ONCE):
            if self._hashed not in self._done:
                return False
            start, end = self.span(self._hashed)
            part = buffer[: os.preadv(self._file, [buffer[: end - start]], start)]
            self._hash.update(part)
            self._hashed += 1
        return True

    @property
    def hashed(self) -> bool:
        """Whether the digest of all parts was taken."""
        return self._hashed == self.parts

    def finish(self) -> bool:
        """Keep the file if its digest is right, else delete it; returns which. Raises DownloadError."""
        right = self._hash.hexdigest() == self.file.sha256
        try:
            if right:
                os.fsync(self._file)
                self._part.rename(self.complete)
        except OSError as error:
            raise of_disk(error, self._part.parent) from error
        finally:
            self.close()
        if not right:
            self._part.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)
        return right

    def close(self) -> None:
        """Close both files."""
        for number in (self._file, self._log):
            if number >= 0:
                os.close(number)
        self._file = self._log = -1


def _after(pieces: list[memoryview], size: int) -> list[memoryview]:
    """Return what follows the first bytes of some pieces."""
    for index, piece in enumerate(pieces):
        if size < len(piece):
            return [piece[size:], *pieces[index + 1 :]]
        size -= len(piece)
    return []
