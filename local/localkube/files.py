"""Files of processes that keep running whatever the disk does: replaced whole, retried while there is no room, logs of bounded size."""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MAX_LOG_BYTES = 10 * 2**20
"""As the kubelet's containerLogMaxSize; one older file is kept beside it."""
_ROTATION_SECONDS = 10.0


def replace(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all. Raises OSError; what was there stays then."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


class PatientWriter:
    """Writes records that may wait: one that cannot be written now is written as soon as there is room.

    `write` never fails. What waits is the latest state of each, since its content is asked for when it is written.
    """

    def __init__(self, *, retry: float = RETRY_SECONDS) -> None:
        self._retry = retry
        self._waiting: dict[Path, Callable[[], bytes]] = {}
        self._arrived = asyncio.Event()

    def write(self, path: Path, content: Callable[[], bytes]) -> None:
        """Replace a file now, or later."""
        try:
            replace(path, content())
        except OSError as error:
            if path not in self._waiting:
                log.warning("%s cannot be written, which is tried again: %s", path, error.strerror)
            self._waiting[path] = content
            self._arrived.set()
        else:
            self._waiting.pop(path, None)

    def forget(self, path: Path) -> None:
        """Delete a file, also one that still waits."""
        self._waiting.pop(path, None)
        path.unlink(missing_ok=True)

    async def run(self) -> None:
        """Write what waits, every `retry` seconds, until cancelled."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._retry)
            self._arrived.clear()
            for path, content in list(self._waiting.items()):
                self.write(path, content)


def problem(folder: Path) -> str:
    """Return why nothing can be written into a folder, such as `No space left on device`; empty if something can."""
    probe = folder / f".write-test.{os.getpid()}"
    try:
        replace(probe, b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def rotate(path: Path, limit: int = MAX_LOG_BYTES) -> None:
    """Copy a log that is larger than `limit` bytes beside itself and empty it; its writers, who append, continue.

    On a full disk it is emptied without a copy. What is written between copy and emptying is lost.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size <= limit:
            return
        try:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        except OSError as error:
            path.with_name(f"{path.name}.1").unlink(missing_ok=True)
            log.warning("%s is emptied without a copy: %s", path, error.strerror)
        os.truncate(path, 0)


async def keep_rotated(logs: Callable[[], Iterable[Path]]) -> None:
    """Rotate logs every ten seconds until cancelled."""
    while True:
        await asyncio.sleep(_ROTATION_SECONDS)
        for path in logs():
            rotate(path)
