"""Diffusers, for our server of images: 4 minutes, 0.6 GB to download, 1.6 GB on disk."""

import hashlib
import os
import subprocess
from pathlib import Path

from tests.engines.installed import folders, torch_environment
from tests.engines.installed.required import required
from tests.engines.installed.torch_environment import PINNED, ROOT

NAME = f"diffusers-{PINNED['diffusers']}-torch-{PINNED['torch']}-scipy-{PINNED['scipy']}"
PACKAGES = ("diffusers", "transformers", "accelerate", "bitsandbytes", "scipy", "aiohttp", "msgspec")
PROGRAM = "flexinfer-diffusers-server"
TINY = Path(__file__).with_name("tiny_pipeline.py")


def python() -> Path | None:
    """Return the Python that has diffusers; None if it is not installed."""
    path = folders.place(NAME) / "bin" / "python"
    return path if path.exists() else None


def program(target: Path) -> Path:
    """Write the program of the backend `diffusers` into a folder, for that Python and the sources here; skips where it is not to run."""
    interpreter = required("diffusers", python)
    variables = f"export PYTHONPATH={ROOT / 'local'} HF_HUB_OFFLINE=1"
    folders.script(target / PROGRAM, variables, f"exec {interpreter} -m flexinfer.image_server")
    return target


def tiny_pipeline() -> Path:
    """Return the folder of a random pipeline of 7 MB, written once for each version of what writes it; nothing may change it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    written_by = hashlib.sha256(TINY.read_bytes()).hexdigest()[:12]

    def fill(draft: Path) -> None:
        command = [str(python()), str(TINY), str(draft)]
        subprocess.run(command, env=environment, capture_output=True, check=True)

    return folders.once(f"{NAME}-pipeline-{written_by}", fill) / "tiny"


def install() -> Path:
    """Install it unless it is there; returns its folder. Raises CalledProcessError."""

    def fill(draft: Path) -> None:
        torch_environment.create(draft)
        torch_environment.pip(draft, *PACKAGES)

    return folders.once(NAME, fill)
