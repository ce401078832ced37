"""Images: which program of this machine runs the image of a backend, and our own. The table that the local node is started with."""

import sys
from collections.abc import Sequence

from flexinfer.api.installation import IMAGE
from localkube.kubelet.image_runtimes import (
    PROCESS,
    ImageRuntime,
    ImageRuntimes,
    Runtime,
    Which,
    bare,
    program,
)

_PYTHONS = ("python", "python3")


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


def _ollama(which: Which) -> Runtime:
    found = program("ollama", "install it from https://ollama.com/download")(which)
    return Runtime(found.entrypoint, found.aliases, arguments=("serve",))


def _vllm(which: Which) -> Runtime:
    found = program("vllm", "pip install vllm", "serve")(which)
    return _Vllm(found.entrypoint, found.aliases)


class _Vllm(Runtime, frozen=True):
    """vllm's image: its entry point is `vllm serve`; a command that names `vllm` brings its own verb."""

    def command(self, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
        """Return the command line."""
        words = (*command, *args)
        if command and command[0] in self.aliases:
            return (self.entrypoint[0], *words[1:])
        return words if command else (*self.entrypoint, *args)


IMAGES = ImageRuntimes(
    (
        ImageRuntime(("ghcr.io/ggml-org/llama.cpp:server*", "ghcr.io/ggerganov/llama.cpp:server*"), _llama),
        ImageRuntime((IMAGE, f"{IMAGE}:*", f"{IMAGE}@*"), _own),
        ImageRuntime(("ollama/ollama", "ollama/ollama:*", "docker.io/ollama/ollama:*"), _ollama),
        ImageRuntime(
            ("vllm/vllm-openai*", "docker.io/vllm/vllm-openai*", "rocm/vllm*", "vllm/vllm-openai-cpu*"), _vllm
        ),
        ImageRuntime(("flexinfer.local/process", "flexinfer.local/process:*"), bare),
        PROCESS,
    ),
    advice="it runs llama.cpp, ollama and vllm by programs installed on this machine. Choose one of those backends, "
    "or move to a Kubernetes cluster",
)
