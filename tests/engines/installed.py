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

from flexinfer.local.controlplane.programs import cache_folder
from tests.engines import cuda_stub

ROOT = Path(__file__).resolve().parents[2]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
TORCH = f"torch=={PINNED['torch']}"
PACKAGES = ("diffusers", "transformers", "accelerate", "aiohttp")


def folder(environment: Mapping[str, str]) -> Path:
    """Return where the virtual environment with diffusers is kept."""
    return cache_folder(environment) / f"diffusers-{PINNED['diffusers']}-torch-{PINNED['torch']}"


def python() -> Path | None:
    """Return the Python that has diffusers; None if it is not installed."""
    path = folder(os.environ) / "bin" / "python"
    return path if path.exists() else None


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
