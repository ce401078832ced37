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

import msgspec

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19  # fields of /proc/<pid>/stat behind the name
_DEAD = frozenset("ZXx")


class Identity(msgspec.Struct, frozen=True):
    """Which process: `started` is in clock ticks since boot, and no two of one pid share it."""

    pid: int
    started: int


def identify(pid: int) -> Identity | None:
    """Return the identity of the process that has this pid and lives; a zombie does not."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in _DEAD else Identity(pid, int(fields[_STARTED]))


def alive(identity: Identity) -> bool:
    """Tell whether exactly this process lives."""
    return identify(identity.pid) == identity


class Found(msgspec.Struct, frozen=True):
    """A process that carries a variable in its environment."""

    identity: Identity
    value: str
    argv: tuple[str, ...]


def find(variable: str) -> list[Found]:
    """Return this user's living processes whose environment has a variable."""
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
                found += _carrying(variable.encode() + b"=", folder)
    return found


def _carrying(prefix: bytes, folder: Path) -> list[Found]:
    told = next((v for v in (folder / "environ").read_bytes().split(b"\0") if v.startswith(prefix)), None)
    identity = identify(int(folder.name))
    if told is None or identity is None:
        return []
    words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    value = told.removeprefix(prefix).decode(errors="replace")
    return [Found(identity, value, tuple(word.decode(errors="replace") for word in words))]


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
    stat = (_PROC / str(child.pid) / "stat").read_text().rpartition(")")[2].split()
    return Process(Identity(child.pid, int(stat[_STARTED])), descriptor, child)


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
