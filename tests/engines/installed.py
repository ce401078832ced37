"""The Python of an engine that is a Python package: in the user's cache folder of programs, by version, where it is installed once.

`python -m tests.engines.installed` installs what is missing: torch without NVIDIA's packages, diffusers, and what they need; 4 minutes,
0.6 GB to download, 1.6 GB on disk.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from flexinfer.local.controlplane.programs import cache_folder
from tests.engines import cuda_stub

ROOT = Path(__file__).resolve().parents[2]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
TORCH = f"torch=={PINNED['torch']}"
PACKAGES = ("diffusers", "transformers", "accelerate", "bitsandbytes", "aiohttp", "msgspec")
PROGRAM = "flexinfer-diffusers-server"
TINY = Path(__file__).with_name("tiny_pipeline.py")


def folder(environment: Mapping[str, str]) -> Path:
    """Return where the virtual environment with diffusers is kept."""
    return cache_folder(environment) / f"diffusers-{PINNED['diffusers']}-torch-{PINNED['torch']}"


def python() -> Path | None:
    """Return the Python that has diffusers; None if it is not installed."""
    path = folder(os.environ) / "bin" / "python"
    return path if path.exists() else None


def program(target: Path) -> Path:
    """Write the program of the backend `diffusers` into a folder, for that Python and the sources here; skips where there is none."""
    interpreter = python()
    if interpreter is None:
        pytest.skip("diffusers: not installed (python -m tests.engines.installed); not run")
    script = target / PROGRAM
    lines = (
        f"export PYTHONPATH={ROOT / 'local'} HF_HUB_OFFLINE=1\nexec {interpreter} -m flexinfer.image_server"
    )
    script.write_text(f"#!/bin/sh\n{lines}\n")
    script.chmod(0o755)
    return target


def tiny_pipeline(target: Path) -> Path:
    """Write a random pipeline of 7 MB and return its folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run([str(python()), str(TINY), str(target)], env=environment, capture_output=True, check=True)
    return target / "tiny"


def install() -> Path:
    """Install it unless it is there; returns its Python. Raises CalledProcessError."""
    target = folder(os.environ)
    if (existing := python()) is not None:
        return existing
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(draft)], check=True)
    packages = _packages(draft)
    _pip(draft, "--no-deps", TORCH)
    print(f"torch: {cuda_stub.write(packages)} libraries of NVIDIA are replaced by a stub", flush=True)  # noqa: T201
    _forget_cuda(packages)
    _pip(draft, *PACKAGES)
    draft.rename(target)
    return target / "bin" / "python"


def _pip(environment: Path, *words: str) -> None:
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--quiet", "-c", str(ROOT / "constraints.txt"), *words], check=True)


def _packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def _forget_cuda(packages: Path) -> None:
    """Remove NVIDIA's packages from what torch says that it needs: else pip downloads them with whatever needs torch."""
    (file,) = packages.glob("torch-*.dist-info/METADATA")
    wanted = ("Requires-Dist: cuda-", "Requires-Dist: nvidia-", "Requires-Dist: triton")
    lines = [line for line in file.read_text().splitlines() if not line.startswith(wanted)]
    file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    print(install())  # noqa: T201
