"""`python -m flexinfer.prefetcher.keep FOLDER`: keeps the files of a folder in the page cache of its node until SIGTERM.

Runs inside a Job that requests as much memory as the files have, so that the scheduler counts it: pages of a file belong to
whom touched them first. Each round reads what is absent and touches the rest, so that the kernel takes other pages before
these. Nothing is locked and nothing copied: an engine that maps the files shares the pages. Imports nothing but the standard library.
"""

import argparse
import ctypes
import logging
import mmap
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

log = logging.getLogger(__name__)
EVERY_SECONDS = 60.0
_WINDOW = 64 * 2**20
"""Bytes that are mapped at a time: a mapping of everything would need page tables of a 500th of it."""
_BLOCK = 4 * 2**20


def keep(folder: Path) -> tuple[int, int]:
    """Bring every file of a folder into the page cache; returns the bytes of all, and those that were absent. Raises OSError."""
    total = absent = 0
    for path in _files(folder):
        size, missing = _keep_file(path)
        total, absent = total + size, absent + missing
    return total, absent


def absent_of(path: Path) -> int:
    """Return how many bytes of a file the page cache does not hold, in whole pages; 0 where the kernel does not say. Raises OSError."""
    number = os.open(path, os.O_RDONLY)
    try:
        return sum(_absent(number, *window) for window in _windows(os.fstat(number).st_size))
    finally:
        os.close(number)


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(root, name)).is_file())


def _keep_file(path: Path) -> tuple[int, int]:
    number = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(number).st_size
        return size, sum(_keep_window(number, *window) for window in _windows(size))
    finally:
        os.close(number)


def _windows(size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(_WINDOW, size - start)) for start in range(0, size, _WINDOW))


def _keep_window(number: int, start: int, size: int) -> int:
    """Read what is absent of a part of a file, and touch each page of it; returns what was absent."""
    absent = _absent(number, start, size)
    if absent:
        buffer = bytearray(min(_BLOCK, size))
        for position in range(start, start + size, len(buffer)):
            os.preadv(number, [buffer], position)
    with mmap.mmap(number, size, prot=mmap.PROT_READ, offset=start) as pages:
        bytes(pages[:: mmap.PAGESIZE])
    return absent


def _absent(number: int, start: int, size: int) -> int:
    """Return how many bytes of a part of a file are in no page of the cache. Raises OSError."""
    with mmap.mmap(
        number, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE, offset=start
    ) as pages:
        resident = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(pages)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), resident
        )
        del first  # the mapping is closed only once nothing points into it
    return 0 if failed else bytes(resident).count(0) * mmap.PAGESIZE


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep the files until SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.prefetcher.keep")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=float, default=EVERY_SECONDS, help="seconds between two rounds")
    options = parser.parse_args(arguments)
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    while not end.is_set():
        try:
            total, absent = keep(options.folder)
        except OSError as error:
            log.warning("%s cannot be read: %s", error.filename or options.folder, error.strerror)
            return 1
        if not total:
            log.warning("%s does not exist or is empty", options.folder)
            return 1
        if absent:
            log.info("%d of %d bytes were read into the page cache", absent, total)
        end.wait(options.every)
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
