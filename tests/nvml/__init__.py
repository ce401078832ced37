"""Scripts for the stub of NVIDIA's library: what it answers at each probe, with profiles of real cards."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

_STUB = Path(__file__).with_name("stub.c")
_MIB = 2**20
NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, LOST, RESET_REQUIRED, UNKNOWN_ERROR = 3, 4, 9, 15, 16, 999
"""Codes of the library."""
NOT_REPORTED = -1


class Process(msgspec.Struct, frozen=True):
    """A process that holds memory, in MiB at the first and the second listing of a probe; `kind` is c (computing) or g (graphics)."""

    pid: int
    used_mb: int
    kind: str = "c"
    later_mb: int | None = None


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A device; -1 is a figure that it does not support, `handle`, `memory` and `listing` are codes of failing calls."""

    uuid: str
    name: str
    bus: int
    capability: tuple[int, int]
    total_mb: int
    reserved_mb: int = 0
    used_mb: int = 0
    busy: int = 0
    celsius: int = 0
    milliwatts: int = 0
    mig: int = NOT_REPORTED
    events: int = 0
    handle: int = 0
    memory: int = 0
    listing: int = 0
    processes: tuple[Process, ...] = ()


GTX_980_TI = Card(
    uuid="GPU-0f1e2d3c-980a-4b5c-8d6e-7f8091a2b3c4",
    name="NVIDIA GeForce GTX 980 Ti",
    bus=1,
    capability=(5, 2),
    total_mb=6144,
    reserved_mb=61,
    used_mb=3,
    busy=0,
    celsius=44,
    milliwatts=16400,
    events=NOT_REPORTED,
)
RTX_3090 = Card(
    uuid="GPU-5a6b7c8d-3090-4e0f-9a1b-2c3d4e5f6071",
    name="NVIDIA GeForce RTX 3090",
    bus=10,
    capability=(8, 6),
    total_mb=24576,
    reserved_mb=311,
    used_mb=1,
    busy=2,
    celsius=38,
    milliwatts=21700,
)
H100 = Card(
    uuid="GPU-c1d2e3f4-1000-4a5b-8c6d-7e8f90a1b2c3",
    name="NVIDIA H100 80GB HBM3",
    bus=0xC3,
    capability=(9, 0),
    total_mb=81559,
    reserved_mb=577,
    used_mb=0,
    celsius=31,
    milliwatts=69800,
    mig=0,
)
"""As `nvidia-smi -q` prints them on idle machines; the H100 with driver 580."""


class Step(msgspec.Struct, frozen=True):
    """What one probe meets; `xids` are pairs of a device's index (-1: of none) and a number."""

    cards: tuple[Card, ...] = ()
    xids: tuple[tuple[int, int], ...] = ()
    init: int = 0
    count: int = 0


class Machine(msgspec.Struct, frozen=True):
    """A folder with the library and a script."""

    folder: Path

    def play(self, steps: Sequence[Step], *, old_driver: bool = False) -> dict[str, str]:
        """Return the environment of a process that meets these steps, one a probe. Skips without a C compiler."""
        (self.folder / "script").write_text("".join(map(_step, steps)))
        (self.folder / "libnvidia-ml.so.1").write_bytes(_library(old_driver=old_driver))
        return os.environ | {
            "LD_LIBRARY_PATH": str(self.folder),
            "NVML_SCRIPT": str(self.folder / "script"),
        }


@functools.cache
def _library(*, old_driver: bool) -> bytes:
    """Return the compiled library. Skips without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    defines = ["-DOLD_DRIVER"] if old_driver else []
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library"
        subprocess.run([compiler, "-shared", "-fPIC", *defines, "-o", library, _STUB], check=True)
        return library.read_bytes()


def _step(step: Step) -> str:
    lines = ["step", f"init {step.init}", f"count {step.count}"]
    lines += [_device(card) for card in step.cards]
    for index, card in enumerate(step.cards):
        lines.append(f"list {index} {card.listing}")
        for process in card.processes:
            later = process.used_mb if process.later_mb is None else process.later_mb
            lines.append(
                f"process {index} {process.kind} {process.pid} {_bytes(process.used_mb)} {_bytes(later)}"
            )
    lines += [f"xid {index} {number}" for index, number in step.xids]
    return "\n".join(lines) + "\n"


def _device(card: Card) -> str:
    sizes = [_bytes(size) for size in (card.total_mb, card.reserved_mb, card.used_mb)]
    figures = [card.busy, card.celsius, card.milliwatts, card.mig, card.events, card.handle, card.memory]
    fields = [card.uuid, card.name, 0, card.bus, *card.capability, *sizes, *figures]
    return "device " + "|".join(map(str, fields))


def _bytes(mebibytes: int) -> int:
    return mebibytes if mebibytes < 0 else mebibytes * _MIB
