"""Back-off: the delay before a container is restarted (CrashLoopBackOff), with kubelet's limits. Pure."""

import msgspec

MAX_DELAY = 300.0
"""Seconds."""
RESET_AFTER = 600.0
"""Seconds of running after which the back-off of a container starts from the beginning."""


class BackOff(msgspec.Struct, frozen=True):
    """No delay after the first end in a row, then `first` seconds, doubling up to MAX_DELAY."""

    first: float = 10.0

    def streak(self, previous: int, ran: float) -> int:
        """Return how many ends in a row this is, after a run of `ran` seconds."""
        return 1 if ran >= RESET_AFTER else previous + 1

    def delay(self, streak: int) -> float:
        """Return the seconds to wait after the end that is number `streak` in a row."""
        if streak <= 1:
            return 0.0
        return min(self.first * 2.0 ** min(streak - 2, 30), MAX_DELAY)


def format_duration(seconds: float) -> str:
    """Return a duration as kubelet prints it: `10s`, `2m40s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
