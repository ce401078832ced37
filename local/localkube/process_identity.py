"""Process identity: a process is told from any other by pid and start time, so a pid that was given again is never mistaken."""

import contextlib
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19  # fields of /proc/<pid>/stat behind the name
_DEAD = frozenset("ZXx")


class Identity(msgspec.Struct, frozen=True):
    """Which process: `started` is in clock ticks since boot, and no two of one pid share it."""

    pid: int
    started: int


def identify(pid: int, *, zombie: bool = False) -> Identity | None:
    """Return the identity of the process that has this pid and lives; `zombie` accepts one that ended and was not reaped."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in _DEAD and not zombie else Identity(pid, int(fields[_STARTED]))


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
