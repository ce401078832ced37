"""Process: a process of an instance, identified by pid and start time, whether this supervisor is its parent or not.

A pidfd reports its end, so nothing polls, and a signal reaches exactly this process, even if its pid was reused meanwhile.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from localkube.process_identity import Identity, alive, identify


class Process:
    """A watched process. `child` is None if another supervisor started it; its exit code then stays unknown."""

    def __init__(
        self, identity: Identity, descriptor: int, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self.identity = identity
        self._descriptor = descriptor
        self._child = child
        self.code: int | None = None

    @property
    def adopted(self) -> bool:
        """Whether an earlier supervisor started it."""
        return self._child is None

    async def ended(self) -> None:
        """Return once it has ended and, if it is a child, has been reaped."""
        loop = asyncio.get_running_loop()
        exit_future: asyncio.Future[None] = loop.create_future()

        def note() -> None:
            loop.remove_reader(self._descriptor)
            if not exit_future.done():
                exit_future.set_result(None)

        loop.add_reader(self._descriptor, note)
        try:
            await exit_future
        finally:
            loop.remove_reader(self._descriptor)
        if self._child is not None:
            self.code = self._child.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process; no error if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def catches(self, number: signal.Signals) -> bool:
        """Return whether it handles a signal now; one that starts, or is of an earlier version, would end by it."""
        with contextlib.suppress(OSError, ValueError):
            lines = Path(f"/proc/{self.identity.pid}/status").read_text().splitlines()
            masks = (line.partition(":")[2] for line in lines if line.startswith("SigCgt:"))
            return bool(int(next(masks, "0"), 16) >> (number - 1) & 1)
        return False

    async def stop(self, grace: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, then SIGKILL after `grace` seconds; return once it has ended."""
        self.send(number)
        try:
            async with asyncio.timeout(grace):
                await self.ended()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.ended()

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self._descriptor)


def start(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start a process in its own session, which no Ctrl-C of a terminal reaches; its output is appended to the log. Raises OSError."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    descriptor = os.pidfd_open(child.pid)  # not reaped yet, so the pid cannot be reused
    identity = identify(child.pid, zombie=True)
    assert identity is not None  # noqa: S101 -- not reaped yet
    return Process(identity, descriptor, child)


def adopt(identity: Identity) -> Process | None:
    """Return a watched process that an earlier supervisor started; None if it has ended."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if alive(identity) and not select.select([descriptor], [], [], 0)[0]:
        return Process(identity, descriptor)
    os.close(descriptor)
    return None
