"""Process: one process of ours, told from any other by pid and start time, whether we are its parent or not.

Its end arrives on a pidfd, so nothing polls, and a signal goes to exactly the process that was meant, whoever got its number since.
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
    """A process under watch. `child` is None when we are not its parent; then its exit code stays unknown."""

    def __init__(
        self, identity: Identity, descriptor: int, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self.identity = identity
        self._descriptor = descriptor
        self._child = child
        self.code: int | None = None

    @property
    def adopted(self) -> bool:
        """Whether somebody else started it."""
        return self._child is None

    async def ended(self) -> None:
        """Return once it has ended and, if it is our child, has been reaped."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()

        def note() -> None:
            loop.remove_reader(self._descriptor)
            if not gone.done():
                gone.set_result(None)

        loop.add_reader(self._descriptor, note)
        try:
            await gone
        finally:
            loop.remove_reader(self._descriptor)
        if self._child is not None:
            self.code = self._child.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process; one that has ended does not mind."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    async def stop(self, grace: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, and end it when the grace is over."""
        self.send(number)
        try:
            async with asyncio.timeout(grace):
                await self.ended()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.ended()

    def close(self) -> None:
        """Stop watching it."""
        os.close(self._descriptor)


def start(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start a process in a session of its own, so that no Ctrl-C of a terminal reaches it; its output goes to the log."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    descriptor = os.pidfd_open(child.pid)  # not reaped yet, so the pid is still its own
    identity = identify(child.pid, zombie=True)
    assert identity is not None  # noqa: S101 -- not reaped yet
    return Process(identity, descriptor, child)


def adopt(identity: Identity) -> Process | None:
    """Watch a process that somebody else started; None when it does not live."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if alive(identity) and not select.select([descriptor], [], [], 0)[0]:
        return Process(identity, descriptor)
    os.close(descriptor)
    return None
