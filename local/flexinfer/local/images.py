"""Images: which program of this machine runs which container image. The table that the local node is started with.

An engine's program is the one of that name on PATH, unless `FLEXINFER_PROGRAM_<BACKEND>` names another.

The engines' entries are read from their backends (`LocalProgram`); only the image of our own components and the two that stand for
"a plain process" are named here.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flexinfer import backends
from flexinfer.api.installation import IMAGE
from flexinfer.backends import LocalProgram
from flexinfer.runtime.settings import PROGRAM_PREFIX
from localkube.kubelet.image_runtimes import (
    PROCESS,
    ImageRuntime,
    ImageRuntimes,
    NoProgramError,
    Runtime,
    Which,
    bare,
)

_PYTHONS = ("python", "python3")


class EngineRuntime(Runtime, frozen=True):
    """An engine's program. Its `subcommand` is part of the image's entry point: a command that names the program replaces both.

    `folder` is put before PATH for commands that start the program by its name, such as a script.
    """

    subcommand: tuple[str, ...] = ()
    folder: str = ""

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the whole command line, as a container runtime would put it together."""
        if not command:
            return (*self.entrypoint, *self.subcommand, *(args or self.arguments))
        words = super().command(command, args)
        if not self.folder or words[: len(self.entrypoint)] == self.entrypoint:
            return words
        return ("/usr/bin/env", f"PATH={self.folder}:{os.environ.get('PATH', os.defpath)}", *words)


class ComponentRuntime(Runtime, frozen=True):
    """Our own image: this interpreter takes the place of its Python, and bare arguments name a module."""

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the command line, with this interpreter in place of any Python."""
        words = (*command, *args)
        if words and words[0].rpartition("/")[2] in _PYTHONS:
            return (sys.executable, *words[1:])
        return words if command else (*self.entrypoint, *words)


def engine(name: str, local: LocalProgram, environment: Mapping[str, str]) -> Callable[[Which], Runtime]:
    """Return what finds the program of a backend. It raises NoProgramError, with how to install it, if there is none."""
    setting = f"{PROGRAM_PREFIX}{name.upper().replace('-', '_')}"

    def resolve(which: Which) -> Runtime:
        program = environment.get(setting, "")
        path = which(program) if program else which(local.program) or _console_script(local.fallback, which)
        if program and not path:
            raise NoProgramError(
                f"{setting} is {program}, which is not a program; correct it, or remove it to use {local.program} on PATH"
            )
        if not path:
            remedy = (
                f"{local.install}, or name the program in {setting}"
                if local.install
                else f"name it in {setting}"
            )
            raise NoProgramError(
                f"{local.program} is not on PATH: {remedy}; the start is tried again by itself, and at each request"
            )
        folder = str(Path(path).parent) if program else ""
        return EngineRuntime(
            (path,), (local.program, *local.paths), local.default_args, local.subcommand, folder
        )

    return resolve


def _console_script(name: str, which: Which) -> str | None:
    """Return a console script of this installation, beside the interpreter or else on PATH; None if there is none."""
    if not name:
        return None
    path = Path(sys.executable).with_name(name)
    return str(path) if path.exists() else which(name)


def _component(_which: Which) -> Runtime:
    return ComponentRuntime((sys.executable, "-m"))


def _engines() -> tuple[ImageRuntime, ...]:
    return tuple(
        ImageRuntime(local.images, engine(name, local, os.environ))
        for name, local in backends.local_programs().items()
    )


IMAGES = ImageRuntimes(
    (
        *_engines(),
        ImageRuntime((IMAGE, f"{IMAGE}:*", f"{IMAGE}@*"), _component),
        ImageRuntime(("flexinfer.local/process", "flexinfer.local/process:*"), bare),
        PROCESS,
    ),
    advice=f"it runs the backends {', '.join(backends.local_programs())} as programs installed on this machine. "
    "Choose one of those and remove spec.image, or move to a Kubernetes cluster",
)
