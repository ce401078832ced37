"""What runs once the Secrets are there: a process that does nothing, and ends at SIGTERM."""

import sys
from pathlib import Path

from tests.child_process import child
from tests.instance import until
from tests.patience import patient

_WAITS = "from flexinfer.credentials.__main__ import wait; wait()"


def test_it_waits_with_little_memory_and_ends_at_sigterm() -> None:
    """Also as the first process of a container, to which a signal without a handler does nothing: it is blocked and waited for."""
    with child([sys.executable, "-c", _WAITS]) as process:
        folder = Path(f"/proc/{process.pid}")
        until(lambda: b"sigwait" in (folder / "cmdline").read_bytes(), patient(20), "the program is replaced")
        assert _kilobytes(folder / "status", "VmRSS") < 16_000, "an interpreter without modules"
        process.terminate()
        assert process.wait(patient(20)) == 0


def _kilobytes(status: Path, name: str) -> int:
    """Return a number of a process's status."""
    line = next(one for one in status.read_text().splitlines() if one.startswith(f"{name}:"))
    return int(line.split()[1])
