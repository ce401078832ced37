"""Images: which program of this machine stands for a container image. A small table, one entry a kind of image.

Nothing is pulled. An image without an entry, or whose program is not installed, is an ErrImagePull with a sentence that says what to
install.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import msgspec

from flexinfer.api.installation import IMAGE

Which = Callable[[str], str | None]
_PYTHONS = ("python", "python3")


class NoRuntimeError(Exception):
    """Nothing on this machine stands for the image; the message says what to install."""


class Runtime(msgspec.Struct, frozen=True):
    """What stands for an image. `aliases` are names of its program inside the image.

    `entrypoint` comes before the arguments when the container names no command.
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


def find(image: str, which: Which = shutil.which) -> Runtime:
    """Return what runs an image here; NoRuntimeError when nothing does."""
    for patterns, entry in _TABLE:
        if any(fnmatchcase(image, pattern) for pattern in patterns):
            return entry(which)
    raise NoRuntimeError(
        f"no local runtime for image {image!r}: the local node starts no containers; it runs llama.cpp, ollama and vllm by programs "
        "installed on this machine. Choose one of those backends, or move to a Kubernetes cluster"
    )


def _llama(which: Which) -> Runtime:
    aliases = ("/app/llama-server", "/llama-server", "llama-server")
    found = which("llama-server")
    return Runtime((found,) if found else (sys.executable, "-m", "flexinfer.local.llama"), aliases)


def _own(_which: Which) -> Runtime:
    return _Own((sys.executable, "-m"))


class _Own(Runtime, frozen=True):
    """Our own image: this interpreter stands for its python, and bare arguments name a module."""

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the command line, with this interpreter in place of any python."""
        words = (*command, *args)
        if words and words[0].rpartition("/")[2] in _PYTHONS:
            return (sys.executable, *words[1:])
        return words if command else (*self.entrypoint, *words)


def _program(name: str, remedy: str, *arguments: str) -> Callable[[Which], Runtime]:
    def entry(which: Which) -> Runtime:
        found = which(name)
        if not found:
            raise NoRuntimeError(f"{name} is not on PATH: {remedy}, then it starts by itself")
        aliases = (name, f"/bin/{name}", f"/usr/bin/{name}", f"/usr/local/bin/{name}")
        return Runtime((found, *arguments), aliases)

    return entry


def _ollama(which: Which) -> Runtime:
    found = _program("ollama", "install it from https://ollama.com/download")(which)
    return Runtime(found.entrypoint, found.aliases, arguments=("serve",))


def _vllm(which: Which) -> Runtime:
    found = _program("vllm", "pip install vllm", "serve")(which)
    return _Vllm(found.entrypoint, found.aliases)


class _Vllm(Runtime, frozen=True):
    """vllm's image: its entry point is `vllm serve`; a command that names `vllm` brings its own verb."""

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the command line."""
        words = (*command, *args)
        if command and command[0] in self.aliases:
            return (self.entrypoint[0], *words[1:])
        return words if command else (*self.entrypoint, *args)


def _bare(_which: Which) -> Runtime:
    return Runtime(())


_TABLE: tuple[tuple[tuple[str, ...], Callable[[Which], Runtime]], ...] = (
    (("ghcr.io/ggml-org/llama.cpp:server*", "ghcr.io/ggerganov/llama.cpp:server*"), _llama),
    ((IMAGE, f"{IMAGE}:*", f"{IMAGE}@*"), _own),
    (("ollama/ollama", "ollama/ollama:*", "docker.io/ollama/ollama:*"), _ollama),
    (("vllm/vllm-openai*", "docker.io/vllm/vllm-openai*", "rocm/vllm*", "vllm/vllm-openai-cpu*"), _vllm),
    (("flexinfer.local/process", "flexinfer.local/process:*"), _bare),
)
