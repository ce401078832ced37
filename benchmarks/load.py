"""How busy the machine is with what is not ours: a number from a busy machine says little, and is marked as such."""

import os
import time
from pathlib import Path

QUIET = 0.15
"""Of one core: more than this used by others makes a sample a disturbed one."""
_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal


def rest(seconds: float) -> float:
    """Sleep, and return how much of one core everything used meanwhile: our own idle processes too, which use next to nothing."""
    began, before = time.monotonic(), _busy()
    time.sleep(seconds)
    return (_busy() - before) / (time.monotonic() - began)


def _busy() -> float:
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    return sum(int(fields[place]) for place in _BUSY) / _TICKS


def told(loads: list[float]) -> str:
    """Return a sentence on the samples' company."""
    ordered = sorted(loads)
    quiet = sum(load <= QUIET for load in loads)
    return (
        f"others used {ordered[len(ordered) // 2]:.2f} of a core in the median "
        f"({ordered[0]:.2f} to {ordered[-1]:.2f}, of {os.cpu_count()} cores); {quiet} of {len(loads)} samples undisturbed"
    )
