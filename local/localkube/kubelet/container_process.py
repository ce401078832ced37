"""Process: one run of a container, started so that it outlives this node and its exit code is still told.

Each run has a parent of its own, a few lines of /bin/sh: it writes who it started (`pid`), waits, writes how that ended (`exit`) and
takes what is left of the process group with it, as the end of a container's first process would. A node that was killed
meanwhile reads both files later, so no exit code is guessed. The shell costs about a millisecond and 1 MiB; a Python
shim would cost 20 ms of every wake. Ends are told by pidfds: nothing polls.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from localkube.process_identity import Identity, alive, find, identify

VARIABLE = "LOCALKUBE_RUN"
"""In the environment of every process of a run: the run's folder."""
KILLED = 128 + signal.SIGKILL
_START_SECONDS = 10.0
_SHIM = """trap : TERM INT HUP
cd "$1" || exit 126
shift
"$@" </dev/null &
p=$!
echo "$$ $p" >"$0/pid"
echo "$p" >&0
exec 0</dev/null
while :; do wait $p; c=$?; kill -0 $p 2>/dev/null || break; done
echo $c >"$0/exit"
kill -KILL 0
"""


class Launch(msgspec.Struct, frozen=True):
    """What to start, and where it writes."""

    argv: Sequence[str]  # the first word is an absolute path
    environment: Mapping[str, str]
    folder: Path  # of this run
    directory: Path  # to start in
    log: Path


class Process:
    """A run under way, or one that has just ended."""

    def __init__(self, folder: Path, shim: int, engine: Identity | None, *, ours: bool) -> None:
        self.identity = engine
        self._folder = folder
        self._group = shim or _group(engine)
        self._ours = ours
        self._killed = False
        self._descriptors = [
            fd for pid in (shim, engine.pid if engine else 0) if (fd := _open(pid)) is not None
        ]
        self._ended = asyncio.get_running_loop().create_task(self._wait())

    async def ended(self) -> int | None:
        """Return the exit code (128 + n for signal n) once every process is gone; None when nobody knows it."""
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, unless it has ended."""
        if self._group and not self._ended.done():
            self._killed = self._killed or number == signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, number)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    async def stop(self, grace: float) -> int | None:
        """Prober it to end, end it when the grace is over, and return its exit code."""
        if grace > 0:
            self.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    return await self.ended()
            except TimeoutError:
                pass
        self.signal(signal.SIGKILL)
        return await self.ended()

    async def _wait(self) -> int | None:
        for descriptor in self._descriptors:
            await _readable(descriptor)
            os.close(descriptor)
        if self._ours:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._group, 0)  # noqa: ASYNC222 -- it has ended
        code = exit_code(self._folder)
        return KILLED if code is None and self._killed else code


async def start(launch: Launch) -> Process:
    """Start a run and return once its process exists."""
    launch.folder.mkdir(parents=True, exist_ok=True)
    launch.log.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    try:
        shim = _spawn(launch, writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        pid = await _first_word(reader)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shim, signal.SIGKILL)
        os.waitpid(shim, 0)  # noqa: ASYNC222 -- killed
        raise
    finally:
        os.close(reader)
    return Process(launch.folder, shim, identify(pid) if pid else None, ours=True)


def adopt(folder: Path, known: Identity | None) -> Process | None:
    """Return the run of a folder, alive or ended, as a former node left it; None when nothing was ever started in it.

    `known` is the engine's identity if that node had time to write it down.
    """
    shim, engine = _pids(folder)
    if not shim:
        _end_strays(folder)
        return None
    found = known or _marked(engine, folder)
    living = found if found and alive(found) else None
    return Process(folder, shim if _marked(shim, folder) else 0, living, ours=False)


def kill_all_except(below: Path, keep: frozenset[Path]) -> None:
    """End every process of a run below a folder, except below those to be kept."""
    for process in find(VARIABLE):
        folder = Path(process.value)
        if folder.is_relative_to(below) and not keep.intersection(folder.parents):
            _kill_group(process.identity.pid)


def exit_code(folder: Path) -> int | None:
    """Return what the run's shell wrote when it ended; None when it wrote nothing."""
    try:
        text = (folder / "exit").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _spawn(launch: Launch, writer: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", _SHIM, str(launch.folder), str(launch.directory), *launch.argv],
        {**launch.environment, VARIABLE: str(launch.folder)},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, writer, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(launch.log), flags, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )


async def _first_word(reader: int) -> int:
    async with asyncio.timeout(_START_SECONDS):
        await _readable(reader)
    text = os.read(reader, 32).strip()
    return int(text) if text.isdigit() else 0


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _open(pid: int) -> int | None:
    if not pid:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _pids(folder: Path) -> tuple[int, int]:
    try:
        shim, engine = (folder / "pid").read_text().split()
        return int(shim), int(engine)
    except (OSError, ValueError):
        return 0, 0


def _marked(pid: int, folder: Path) -> Identity | None:
    """Return the identity of a living process that carries this run's folder in its environment."""
    marker = f"{VARIABLE}={folder}".encode()
    try:
        carried = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return identify(pid) if marker in carried else None


def _end_strays(folder: Path) -> None:
    for process in find(VARIABLE):
        if process.value == str(folder):
            _kill_group(process.identity.pid)


def _group(process: Identity | None) -> int:
    """Return the process group of a process; 0, which nobody is sent a signal by, when there is none."""
    if process is None:
        return 0
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return 0


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(pid)
        if group != os.getpgid(0):
            os.killpg(group, signal.SIGKILL)
