"""`python -m tests.engines.installed [NAME...]`: install or build what is missing, by default all: diffusers, llama-server, ollama, vllm.

About an hour on two cores and 1.6 GB to download for all of them; what is in the cache folder takes no time.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.engines.installed import diffusers_server, llama_server, ollama, vllm

INSTALL: Mapping[str, Callable[[], Path]] = {
    "diffusers": diffusers_server.install,
    "vllm": vllm.install,
    "llama-server": llama_server.install,
    "ollama": ollama.install,
}
"""Name -> what installs it; Ollama runs the llama-server, which is therefore before it."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*INSTALL, []])
    for name in parser.parse_args().names or INSTALL:
        print(f"{name}: {INSTALL[name]()}", flush=True)  # noqa: T201
