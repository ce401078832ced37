"""The clock that deadlines are counted by: monotonic seconds that continue while the machine is suspended.

`time.monotonic` (CLOCK_MONOTONIC on Linux) stands still in a suspend: a laptop or VM that resumes would still count as
the leader for up to 4 s, and every deadline would be as far away as before. asyncio's timers are of that clock and
late by the length of the suspend; what they wait for is compared with this clock, and whatever arrives meanwhile (a
lost connection, a heartbeat every few seconds) compares it sooner.
"""

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def monotonic() -> float:
    """Return seconds that never go back and count a suspend where the system has such a clock (Linux)."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
