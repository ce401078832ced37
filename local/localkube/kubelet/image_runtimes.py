"""Image runtimes: which program of this machine runs a container image. The table is an argument of the node.

It takes the place of an image service: nothing is pulled. An image without an entry is an ErrImagePull, one whose program is not installed
a ProgramNotInstalled; both messages name the remedy.
"""

import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import msgspec

Which = Callable[[str], str | None]


class NoRuntimeError(Exception):
    """No program of this machine runs the image; the message says what to install."""


class NoProgramError(NoRuntimeError):
    """The program that runs the image is known, but not installed."""


class Runtime(msgspec.Struct, frozen=True):
    """How an image is run. `aliases` are the names of its program inside the image.

    `entrypoint` comes before the arguments when the container names no command; `arguments` are used when it names neither.
    """

    entrypoint: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the whole command line, as a container runtime would put it together."""
        words = (*command, *args)
        if command:
            return (*self.entrypoint, *words[1:]) if command[0] in self.aliases else words
        return (*self.entrypoint, *(args or self.arguments))


class ImageRuntime(msgspec.Struct, frozen=True):
    """An entry of the table: images by shell patterns, and what finds their runtime. `resolve` raises NoRuntimeError."""

    patterns: tuple[str, ...]
    resolve: Callable[[Which], Runtime]


class ImageRuntimes(msgspec.Struct, frozen=True):
    """The table of one node. `advice` ends the message about an image that has no entry."""

    entries: tuple[ImageRuntime, ...] = ()
    advice: str = "add an entry to the image runtimes that the node is started with"

    def find(self, image: str, which: Which = shutil.which) -> Runtime:
        """Return what runs an image here. Raises NoRuntimeError if nothing does."""
        for entry in self.entries:
            if any(fnmatchcase(image, pattern) for pattern in entry.patterns):
                return entry.resolve(which)
        raise NoRuntimeError(
            f"no local runtime for image {image!r}: the local node starts no containers; {self.advice}"
        )


def bare(_which: Which) -> Runtime:
    """Run the container's command as it is."""
    return Runtime(())


PROCESS = ImageRuntime(("localkube/process", "localkube/process:*"), bare)
"""An image whose containers are plain processes of this machine."""
