"""Process identity: pid and start time together, so that a reused pid is never mistaken for the process that had it before."""

import contextlib
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19  # fields of /proc/<pid>/stat behind the name
_DEAD = frozenset("ZXx")


class Identity(msgspec.Struct, frozen=True):
    """A process. `started` is in clock ticks since boot: no two processes with one pid share it."""

    pid: int
    started: int


def identify(pid: int, *, zombie: bool = False) -> Identity | None:
    """Return the identity of the running process with this pid, None if there is none; `zombie` accepts one that is not reaped yet."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in _DEAD and not zombie else Identity(pid, int(fields[_STARTED]))


def alive(identity: Identity) -> bool:
    """Return whether exactly this process still runs."""
    return identify(identity.pid) == identity


class MarkedProcess(msgspec.Struct, frozen=True):
    """A process with a certain variable in its environment; `value` is that of the variable."""

    identity: Identity
    value: str
    argv: tuple[str, ...]


def find(variable: str) -> list[MarkedProcess]:
    """Return this user's running processes whose environment has a variable."""
    processes = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile, or of another user
                processes += _marked(variable.encode() + b"=", folder)
    return processes


def _marked(prefix: bytes, folder: Path) -> list[MarkedProcess]:
    entry = next((v for v in (folder / "environ").read_bytes().split(b"\0") if v.startswith(prefix)), None)
    identity = identify(int(folder.name))
    if entry is None or identity is None:
        return []
    words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    value = entry.removeprefix(prefix).decode(errors="replace")
    return [MarkedProcess(identity, value, tuple(word.decode(errors="replace") for word in words))]
