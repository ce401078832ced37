"""What runs once the Secrets are there: a process that does nothing, and ends at SIGTERM."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.instance import until

_WAITS = "from flexinfer.credentials.__main__ import wait; wait()"


def test_it_waits_with_little_memory_and_ends_at_sigterm() -> None:
    """Also as the first process of a container, to which a signal without a handler does nothing: it is blocked and waited for."""
    with subprocess.Popen([sys.executable, "-c", _WAITS]) as process:
        status = Path(f"/proc/{process.pid}/status")
        blocks = 1 << (signal.SIGTERM - 1)
        until(lambda: bool(_number(status, "SigBlk", 16) & blocks), 20, "SIGTERM is waited for")
        assert _number(status, "VmRSS", 10) < 16_000, "kB: an interpreter without modules"
        process.terminate()
        assert process.wait(20) == 0


def _number(status: Path, name: str, base: int) -> int:
    """Return a number of a process's status."""
    line = next(one for one in status.read_text().splitlines() if one.startswith(f"{name}:"))
    return int(line.split()[1], base)
