"""The lock of a state folder: one process keeps an instance running, and the kernel frees the lock when that process ends."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from flexinfer.local.instance import make_folder, unusable


@contextlib.contextmanager
def locked(state: Path) -> Iterator[bool]:
    """Hold the folder's lock inside the block; yields False if another process holds it. The kernel frees it when this process ends.

    Raises InstanceError if the folder cannot be made or written.
    """
    make_folder(state)
    try:
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(state, error) from error
    try:
        if not _lock(descriptor):
            yield False
            return
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock; three tries, since `lock_holder` takes it for a moment."""
    for pause in (0.02, 0.02, 0.0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
        else:
            return True
    return False


def lock_holder(state: Path) -> int | None:
    """Return the pid of the process that holds the folder's lock; 0: unknown; None: it is free."""
    try:
        descriptor = os.open(state / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None
