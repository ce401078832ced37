"""Container process: one run of a container, started so that it outlives the kubelet and its exit code is not lost.

The counterpart of a containerd shim. Each run has a parent of its own, a few lines of /bin/sh: it writes the process ids (`pid`),
waits, writes the exit code (`exit`), and then kills what is left of the process group, as the end of a container's first process would.
A kubelet that was killed meanwhile reads both files later, so no exit code is guessed. The shell costs about a millisecond and 1 MiB; a
Python shim would cost 20 ms of every cold start. Ends are reported by pidfds: nothing polls.
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
"""Set in the environment of every process of a run to the run's folder."""
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
    """What to start and where it writes. `argv` begins with an absolute path; `folder` is that of the run, `directory` the working directory."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    directory: Path
    log: Path


class Process:
    """A run in progress, or one that has just ended. `is_child` is False if an earlier kubelet process started it."""

    def __init__(self, folder: Path, shim: int, engine: Identity | None, *, is_child: bool) -> None:
        self.identity = engine
        self._folder = folder
        self._group = shim or _group(engine)
        self._is_child = is_child
        self._killed = False
        self._descriptors = [
            fd for pid in (shim, engine.pid if engine else 0) if (fd := _open(pid)) is not None
        ]
        self._ended = asyncio.get_running_loop().create_task(self._wait())

    async def ended(self) -> int | None:
        """Return the exit code (128 + n for signal n) once every process has ended; None if it is unknown."""
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, unless it has ended."""
        if self._group and not self._ended.done():
            self._killed = self._killed or number == signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, number)

    def kill(self) -> None:
        """Kill it."""
        self.signal(signal.SIGKILL)

    async def stop(self, grace: float) -> int | None:
        """Send SIGTERM, then SIGKILL after `grace` seconds; return its exit code."""
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
        if self._is_child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._group, 0)  # noqa: ASYNC222 -- it has ended
        code = exit_code(self._folder)
        return KILLED if code is None and self._killed else code


async def start(launch: Launch) -> Process:
    """Start a run and return once its process exists. Raises OSError, TimeoutError."""
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
        pid = await _read_pid(reader)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shim, signal.SIGKILL)
        os.waitpid(shim, 0)  # noqa: ASYNC222 -- killed
        raise
    finally:
        os.close(reader)
    return Process(launch.folder, shim, identify(pid) if pid else None, is_child=True)


def adopt(folder: Path, recorded_identity: Identity | None) -> Process | None:
    """Return the run of a folder, alive or ended, as an earlier kubelet process left it; None if nothing was started in it.

    `recorded_identity` is the process's identity if that kubelet had time to save it.
    """
    shim, engine = _pids(folder)
    if not shim:
        _kill_strays(folder)
        return None
    identity = recorded_identity or _marked(engine, folder)
    living = identity if identity and alive(identity) else None
    return Process(folder, shim if _marked(shim, folder) else 0, living, is_child=False)


def kill_all_except(below: Path, keep: frozenset[Path]) -> None:
    """Kill every process of a run below a folder, except below the folders in `keep`."""
    for process in find(VARIABLE):
        folder = Path(process.value)
        if folder.is_relative_to(below) and not keep.intersection(folder.parents):
            _kill_group(process.identity.pid)


def exit_code(folder: Path) -> int | None:
    """Return the exit code that the run's shell wrote; None if it wrote none."""
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


async def _read_pid(reader: int) -> int:
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
        variables = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return identify(pid) if marker in variables else None


def _kill_strays(folder: Path) -> None:
    for process in find(VARIABLE):
        if process.value == str(folder):
            _kill_group(process.identity.pid)


def _group(process: Identity | None) -> int:
    """Return the process group of a process; 0, to which no signal is sent, if there is none."""
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
