"""The load of the machine from other processes: samples of a busy machine are marked."""

import os
import time
from pathlib import Path

QUIET = 0.15
"""The load, in cores, above which a sample counts as disturbed."""
_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal


def rest(seconds: float) -> float:
    """Sleep and return the load meanwhile in cores, including the idle processes of the instance."""
    began, before = time.monotonic(), _busy()
    time.sleep(seconds)
    return (_busy() - before) / (time.monotonic() - began)


def _busy() -> float:
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    return sum(int(fields[place]) for place in _BUSY) / _TICKS


def summary(loads: list[float]) -> str:
    """Return a summary of the load during the samples."""
    ordered = sorted(loads)
    quiet = sum(load <= QUIET for load in loads)
    return (
        f"other load {ordered[len(ordered) // 2]:.2f} of a core (median) "
        f"({ordered[0]:.2f} to {ordered[-1]:.2f}, of {os.cpu_count()} cores); {quiet} of {len(loads)} samples undisturbed"
    )
