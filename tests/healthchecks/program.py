"""The Go program of this folder in the user's cache: its first build compiles some 400 packages, three minutes on one core."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flexinfer.local.controlplane.programs import cache_folder

SOURCE = Path(__file__).parent
_FILES = ("go.mod", "go.sum", "main.go")


def target(environment: Mapping[str, str]) -> Path:
    """Return the path of the program, whose name says from which sources it is built."""
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in _FILES)).hexdigest()[:12]
    return cache_folder(environment) / f"healthchecks-{digest}"


def build(environment: Mapping[str, str]) -> Path:
    """Build the program unless it is there. Raises CalledProcessError, FileNotFoundError without Continue PATH."""
    path = target(environment)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        subprocess.run(["go", "build", "-o", str(half), "."], cwd=SOURCE, env=dict(environment), check=True)
        half.rename(path)
    return path
