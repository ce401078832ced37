"""One writer a folder: a lock on the folder that holds a Model's downloads.

The name of a Job admits one writer already; a Pod that ends slowly may overlap with its successor all the same. The lock is that of the
kernel, so a killed process holds none. A file system without such locks has the Job's name alone, and the digests of the files.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download.failure import DownloadError, of_disk

_EVERY_SECONDS = 0.2
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)


@asynccontextmanager
async def only_writer(folder: Path, seconds: float) -> AsyncIterator[None]:
    """Hold the lock on a folder, which is created. Raises DownloadError if another process holds it for so long."""
    number = await asyncio.to_thread(_opened, folder)
    try:
        await _wait(number, folder, seconds)
        yield
    finally:
        os.close(number)


def _opened(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise of_disk(error, folder) from error


async def _wait(number: int, folder: Path, seconds: float) -> None:
    for _ in range(max(1, int(seconds / _EVERY_SECONDS))):
        if not _is_taken(number):
            return
        await asyncio.sleep(_EVERY_SECONDS)
    raise DownloadError(
        Reason.FETCH_FAILED,
        f"another download has written to {folder} for {seconds:.0f}s. Remedy: none is needed, the next attempt continues with what it leaves",
    )


def _is_taken(number: int) -> bool:
    """Take the lock; returns whether another process holds it."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _TAKEN
    return False
