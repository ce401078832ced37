"""Ollama from its Go module, with our build of llama-server, which it runs for each model: 3 minutes on one core, 52 MB.

Its module is asked for by version: `@latest` is 0.17.4.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.engines.installed import folders, llama_server

VERSION = "0.34.0"
NAME = f"ollama-{VERSION}-llama-server-{llama_server.VERSION}"
MODULE = Path(__file__).with_name("ollama_module")


def program() -> Path | None:
    """Return the program; None if it is not built."""
    path = folders.place(NAME) / "bin" / "ollama"
    return path if path.exists() else None


def install() -> Path:
    """Build it unless it is there; returns its folder. Needs the Go toolchain. Raises CalledProcessError, FileNotFoundError."""
    llama_server.install()
    return folders.once(NAME, _fill)


def _fill(draft: Path) -> None:
    build = ["go", "build", "-trimpath", "-ldflags", f"-X=github.com/ollama/ollama/version.Version={VERSION}"]
    package = "github.com/ollama/ollama"
    subprocess.run(
        [*build, "-o", str(draft / "bin" / "ollama"), package],
        cwd=MODULE,
        env=os.environ | {"CGO_ENABLED": "1"},
        check=True,
    )
    runners = draft / "lib" / "ollama"
    runners.mkdir(parents=True)
    for name in llama_server.PROGRAMS:
        shutil.copy2(folders.place(llama_server.NAME) / name, runners / name)
