"""A virtual environment with torch for the CPU: PyPI's build for CUDA, over a stub in place of the 3 GB of NVIDIA's packages."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.engines.installed import cuda_stub

ROOT = Path(__file__).resolve().parents[3]
CONSTRAINTS = ROOT / "constraints.txt"
PINNED = dict(line.split("==") for line in CONSTRAINTS.read_text().split())
TORCH = PINNED["torch"]


def create(folder: Path, *with_torch: str) -> Path:
    """Make an environment with torch, and with packages whose own needs are not looked at; returns its folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    pip(folder, "--no-deps", f"torch=={TORCH}", *with_torch)
    print(f"torch: {cuda_stub.write(packages)} libraries of NVIDIA are replaced by a stub", flush=True)  # noqa: T201
    _forget_cuda(packages)
    return packages


def pip(folder: Path, *words: str, constraints: Path = CONSTRAINTS) -> None:
    """Install packages. Raises CalledProcessError."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    subprocess.run([*command, "--quiet", "-c", str(constraints), *words], check=True)


def _forget_cuda(packages: Path) -> None:
    """Remove NVIDIA's packages from what torch says that it needs: else pip downloads them with whatever needs torch."""
    (file,) = packages.glob("torch-*.dist-info/METADATA")
    wanted = ("Requires-Dist: cuda-", "Requires-Dist: nvidia-", "Requires-Dist: triton")
    lines = [line for line in file.read_text().splitlines() if not line.startswith(wanted)]
    file.write_text("\n".join(lines) + "\n")
