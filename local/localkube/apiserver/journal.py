"""The journal: an append-only file of JSON lines, from which the store is restored after a restart.

A write is acknowledged only after its line was written, whole, in one system call, so a SIGKILL at any moment
loses no acknowledged write. The file is synced (fsync) at every compaction, at `sync` and when it is closed,
not at every line: a power failure may lose the last seconds. An incomplete last line was never acknowledged
and is dropped. Compaction writes the live objects to a new file and renames it over the old one.
"""

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Self

import msgspec

from localkube.apiserver.resources import Object

log = logging.getLogger(__name__)

_VERSION: Final = 1
MIN_COMPACTION_BYTES: Final = 8 * 2**20
_COMPACTION_FACTOR: Final = 4  # times the size after the last compaction


class JournalError(Exception):
    """The file cannot be read, locked or written; the message says why, and what to do."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: an object after a write, or the namespace and name of a deleted one."""

    revision: int
    group: str
    plural: str
    obj: Object | None = None
    namespace: str = ""  # of a deleted object
    name: str = ""


class _Header(msgspec.Struct, frozen=True):
    journal: int  # the version of the format
    revision: int  # the store's revision at the compaction that wrote the file


class Journal:
    """The file and its lock, held by one process at a time; a context manager closes both.

    A file smaller than `min_compaction_bytes` needs no compaction. Raises JournalError if another process
    holds the lock, OSError if the file cannot be opened.
    """

    def __init__(self, path: Path, *, min_compaction_bytes: int = MIN_COMPACTION_BYTES) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._lock = _lock(path.with_name(path.name + ".lock"))
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        self._compacted_size = 0
        self._min_compaction_bytes = min_compaction_bytes
        self.base_revision = 0  # the revision of the last compaction

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def replay(self) -> Iterator[Record]:
        """Yield every record, oldest first, then cut off an incomplete last line. Raises JournalError."""
        with self._path.open("rb") as lines:
            whole = 0
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                record = self._decode(line, number, at_end=whole + len(line) == self._size)
                if record is not None:
                    yield record
                elif number > 1:
                    break
                whole += len(line)
        if whole < self._size:
            log.warning("%s: dropped %d bytes of an unfinished write", self._path, self._size - whole)
            os.ftruncate(self._file, whole)
            self._size = whole

    def append(self, record: Record) -> None:
        """Write a record, whole or not at all. Raises JournalError, after which the file is as before, and the next one may succeed."""
        line = self._encoder.encode(record) + b"\n"
        try:
            count = os.pwrite(self._file, line, self._size)
            if count != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 -- a part found room
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise JournalError(
                f"{self._path} cannot be written: {error.strerror or error}; nothing was changed, free space on that disk and try again"
            ) from error
        self._size += len(line)

    @property
    def needs_compaction(self) -> bool:
        """Whether most of the file is history."""
        return self._size > max(self._min_compaction_bytes, _COMPACTION_FACTOR * self._compacted_size)

    def compact(self, revision: int, records: Iterable[Record]) -> None:
        """Replace the file atomically by one with only these records, at a revision.

        Where there is no room, it stays as it is, and is compacted once it has grown by as much again.
        """
        try:
            self._compact(revision, records)
        except OSError as error:
            self._path.with_name(self._path.name + ".new").unlink(missing_ok=True)
            self._min_compaction_bytes = 2 * self._size
            log.warning("%s is not compacted: %s", self._path, error.strerror)

    def _compact(self, revision: int, records: Iterable[Record]) -> None:
        draft = self._path.with_name(self._path.name + ".new")
        with draft.open("wb") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(self._encoder.encode(_Header(_VERSION, revision)) + b"\n")
            for record in records:
                out.write(self._encoder.encode(record) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        draft.replace(self._path)
        _sync_directory(self._path.parent)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._size = self._compacted_size = os.fstat(self._file).st_size
        self.base_revision = revision

    def sync(self) -> None:
        """Flush everything written so far to the disk (fsync)."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync, close the file and release the lock. Closing twice is no error."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            os.close(self._lock)
            self._file = -1

    def _decode(self, line: bytes, number: int, *, at_end: bool) -> Record | None:
        """Return the record of a line, None for the header and a broken last line. Raises JournalError."""
        try:
            if number == 1:
                self.base_revision = self._read_header(line)
                return None
            return msgspec.json.decode(line, type=Record)
        except msgspec.MsgspecError as error:
            if at_end and number > 1:
                return None
            raise JournalError(
                f"{self._path}, line {number}: not a line of a journal ({error}); move the file away to start with an empty store"
            ) from error

    def _read_header(self, line: bytes) -> int:
        header = msgspec.json.decode(line, type=_Header)
        if header.journal != _VERSION:
            raise JournalError(
                f"{self._path}: written by another version (format {header.journal}, this one reads {_VERSION})"
            )
        return header.revision


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise JournalError(f"{path}: another process uses this journal; stop it first") from error
    return lock


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
