"""The journal: one append-only file of JSON lines that brings the store back exactly as its clients were told it is.

A write is acknowledged only after its line was handed to the kernel, whole, in one call; so a SIGKILL at any moment loses
nothing that was acknowledged. The disk is told to keep it (fsync) at every compaction, at `sync` and at the end, not at
every line: a power cut may lose the last seconds, like any write that is not synchronous. A last line that was cut short was
never acknowledged and is dropped. Compaction writes what is alive to a new file and renames it over the old one.
"""

import contextlib
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
GROWN_BYTES: Final = 8 * 2**20
_GROWN_TIMES: Final = 4  # as large as what was alive at the last compaction


class JournalError(Exception):
    """The file cannot be used; the message says why, and what to do."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: an object as it became, or the place of one that is gone."""

    revision: int
    group: str
    plural: str
    obj: Object | None = None
    namespace: str = ""  # of what is gone
    name: str = ""


class _Header(msgspec.Struct, frozen=True):
    journal: int  # the version of this format
    revision: int  # the latest when the file was begun


class Journal:
    """The file and its lock; used by one process at a time, closed as a context manager.

    A file smaller than `grown_bytes` is left to grow.
    """

    def __init__(self, path: Path, *, grown_bytes: int = GROWN_BYTES) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._lock = _locked(path.with_name(path.name + ".lock"))
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        self._compacted_size = 0
        self._grown_bytes = grown_bytes
        self.started_at = 0  # the revision that the file began with

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def replay(self) -> Iterator[Record]:
        """Yield every record, oldest first, and cut off a last line that is not whole."""
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
        """Hand a record to the kernel, whole or not at all; JournalError when it does not take it."""
        line = self._encoder.encode(record) + b"\n"
        try:
            written = os.pwrite(self._file, line, self._size)
            if written != len(line):
                raise OSError(0, "the disk took only a part of it")  # noqa: TRY301
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise JournalError(f"{self._path}: {error.strerror or error}") from error
        self._size += len(line)

    @property
    def grown(self) -> bool:
        """Whether most of the file is history by now."""
        return self._size > max(self._grown_bytes, _GROWN_TIMES * self._compacted_size)

    def compact(self, revision: int, records: Iterable[Record]) -> None:
        """Put a file with only these records in the old one's place, in one step."""
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("wb") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(self._encoder.encode(_Header(_VERSION, revision)) + b"\n")
            for record in records:
                out.write(self._encoder.encode(record) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(self._path)
        _sync_folder(self._path.parent)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._size = self._compacted_size = os.fstat(self._file).st_size
        self.started_at = revision

    def sync(self) -> None:
        """Have the disk keep all that was written so far."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync, and let another process use the file."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            os.close(self._lock)
            self._file = -1

    def _decode(self, line: bytes, number: int, *, at_end: bool) -> Record | None:
        """Return the record of a line; None for the header, and for a last line that is no JSON."""
        try:
            if number == 1:
                self.started_at = self._read_header(line)
                return None
            return msgspec.json.decode(line, type=Record)
        except msgspec.MsgspecError as error:
            if at_end and number > 1:
                return None
            raise JournalError(
                f"{self._path}, line {number}: not a line of a journal ({error}); move the file away to begin anew"
            ) from error

    def _read_header(self, line: bytes) -> int:
        header = msgspec.json.decode(line, type=_Header)
        if header.journal != _VERSION:
            raise JournalError(
                f"{self._path}: written by another version (format {header.journal}, this one reads {_VERSION})"
            )
        return header.revision


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise JournalError(f"{path}: another process uses this journal; stop it first") from error
    return lock


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
