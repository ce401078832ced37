"""CpuFacts: what a node has for Models that run without a GPU, by /proc/cpuinfo and /proc/meminfo."""

import contextlib
import re
from pathlib import Path

import msgspec

_VECTOR_FLAGS = re.compile(r"(?:avx|amx)\w*|fma|f16c|sve\w*|asimd|asimddp|i8mm")
"""Extensions that decide how fast llama.cpp computes: of x86 (`flags`) and of ARM (`Features`)."""


class CpuFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Logical CPUs, memory in MiB (all, and what programs can take), and the vector extensions; 0 or empty: not known."""

    cores: int
    memory_mb: int
    available_mb: int
    vector_flags: tuple[str, ...]


def read(proc: Path = Path("/proc")) -> CpuFacts:
    """Return the facts of the machine whose /proc this is."""
    info, memory = _text(proc / "cpuinfo"), _text(proc / "meminfo")
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", info, re.MULTILINE)
    return CpuFacts(
        cores=len(re.findall(r"^processor\s*:", info, re.MULTILINE)),
        memory_mb=_mib(memory, "MemTotal"),
        available_mb=_mib(memory, "MemAvailable"),
        vector_flags=tuple(
            sorted(flag for flag in (flags[1] if flags else "").split() if _VECTOR_FLAGS.fullmatch(flag))
        ),
    )


def _mib(memory: str, name: str) -> int:
    value = re.search(rf"^{name}:\s*(\d+) kB$", memory, re.MULTILINE)
    return int(value[1]) // 1024 if value else 0


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""
