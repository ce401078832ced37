"""Images: which program of this machine runs which container image. The table that the local node is started with.

The engines' entries are read from their backends (`LocalProgram`); only the image of our own components and the two that stand for
"a plain process" are named here.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flexinfer import backends
from flexinfer.api.installation import IMAGE
from flexinfer.backends import LocalProgram
from localkube.kubelet.image_runtimes import (
    PROCESS,
    ImageRuntime,
    ImageRuntimes,
    NoRuntimeError,
    Runtime,
    Which,
    bare,
)

_PYTHONS = ("python", "python3")


class EngineRuntime(Runtime, frozen=True):
    """An engine's program. Its `subcommand` is part of the image's entry point: a command that names the program replaces both."""

    subcommand: tuple[str, ...] = ()

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the whole command line, as a container runtime would put it together."""
        if not command:
            return (*self.entrypoint, *self.subcommand, *(args or self.arguments))
        return super().command(command, args)


class ComponentRuntime(Runtime, frozen=True):
    """Our own image: this interpreter takes the place of its Python, and bare arguments name a module."""

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the command line, with this interpreter in place of any Python."""
        words = (*command, *args)
        if words and words[0].rpartition("/")[2] in _PYTHONS:
            return (sys.executable, *words[1:])
        return words if command else (*self.entrypoint, *words)


def engine(local: LocalProgram) -> Callable[[Which], Runtime]:
    """Return what finds an engine's program. It raises NoRuntimeError, with how to install it, if there is none."""

    def resolve(which: Which) -> Runtime:
        path = which(local.program) or _console_script(local.fallback, which)
        if not path:
            remedy = f": {local.install}, then it starts by itself" if local.install else ""
            raise NoRuntimeError(f"{local.program} is not on PATH{remedy}")
        return EngineRuntime((path,), (local.program, *local.paths), local.default_args, local.subcommand)

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
    return tuple(ImageRuntime(local.images, engine(local)) for local in backends.local_programs().values())


IMAGES = ImageRuntimes(
    (
        *_engines(),
        ImageRuntime((IMAGE, f"{IMAGE}:*", f"{IMAGE}@*"), _component),
        ImageRuntime(("flexinfer.local/process", "flexinfer.local/process:*"), bare),
        PROCESS,
    ),
    advice=f"it runs {', '.join(backends.local_programs())} by programs installed on this machine. "
    "Choose one of those backends, or move to a Kubernetes cluster",
)
