"""Volume mounts: the folders behind the paths that a container mounts.

A process has no mount namespace, so `/models` inside a container's command is turned into the folder behind it: in command, arguments
and variables, a value (or what follows the first `=` of a `--flag=value`) that is a mount path or below one is rewritten, longest mount
first; and in files of the downwardAPI each path in double quotes. A program that knows this node reads all mounts from a variable (default LOCALKUBE_MOUNTS), a JSON object of mount path -> folder.
`readOnly` cannot be enforced on a process of the same user.
"""

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

VARIABLE = "LOCALKUBE_MOUNTS"
_QUOTED = re.compile(r'"(/[^"\\]*)"')


class UnsafePathError(ValueError):
    """A subPath leaves its volume."""


class Mount(msgspec.Struct, frozen=True):
    """One path inside a container and the folder or file behind it."""

    path: str
    folder: str
    read_only: bool = False


class Mounts:
    """All mounts of one container."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        clean_mounts = [Mount(posixpath.normpath(m.path), m.folder, m.read_only) for m in mounts]
        self._mounts = sorted(clean_mounts, key=lambda mount: len(mount.path), reverse=True)

    def variable(self) -> str:
        """Return the value of the variable of mounts."""
        table = {mount.path: mount.folder for mount in self._mounts}
        return msgspec.json.encode(table, order="deterministic").decode()

    def translate(self, value: str) -> str:
        """Return a value with its mount path replaced by the folder behind it."""
        folder = self.find(value)
        if folder is not None:
            return folder
        flag, equals, rest = value.partition("=")
        folder = self.find(rest) if equals and flag.startswith("-") else None
        return value if folder is None else f"{flag}={folder}"

    def within(self, text: str) -> str:
        """Return a text with each path in double quotes, as JSON has them, replaced by what is behind it."""
        return _QUOTED.sub(lambda quoted: f'"{self.translate(quoted[1])}"', text)

    def find(self, path: str) -> str | None:
        """Return the path on this machine of a path inside the container; None if it is below no mount, or leaves it by `..`."""
        if not path.startswith("/"):
            return None
        clean = posixpath.normpath(path)
        for mount in self._mounts:
            if clean == mount.path or clean.startswith(mount.path.rstrip("/") + "/"):
                return mount.folder + clean[len(mount.path.rstrip("/")) :]
        return None


def below(folder: Path, sub_path: str) -> Path:
    """Return a path inside a volume. Raises UnsafePathError if it would leave it, by `..` or by a link."""
    parts = Path(sub_path).parts
    if Path(sub_path).is_absolute() or ".." in parts:
        raise UnsafePathError(f"subPath {sub_path!r} must be a relative path without ..")
    target = folder.joinpath(*parts)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise UnsafePathError(f"subPath {sub_path!r} leads out of its volume")
    return target
