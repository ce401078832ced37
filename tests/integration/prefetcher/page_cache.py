"""The page cache of this machine, as tests and benchmarks of what is kept there need it."""

import os
from pathlib import Path


def drop(path: Path) -> None:
    """Let the kernel drop the pages of a file, once they are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(number)
