"""Back-off: how long a container that keeps ending waits for its next start. Pure."""

import msgspec

MAX_DELAY = 300.0
RESET_AFTER = 600.0
"""A container that ran for so long starts with a clean slate."""


class BackOff(msgspec.Struct, frozen=True):
    """The delay before each start: none, then `first`, doubling up to five minutes."""

    first: float = 10.0

    def streak(self, former: int, ran: float) -> int:
        """Return how many ends in a row this is, after a run of so many seconds."""
        return 1 if ran >= RESET_AFTER else former + 1

    def delay(self, streak: int) -> float:
        """Return the seconds to wait after the end that is number `streak` in a row."""
        if streak <= 1:
            return 0.0
        return min(self.first * 2.0 ** min(streak - 2, 30), MAX_DELAY)


def format_duration(seconds: float) -> str:
    """Return a duration as kubelet prints it: `10s`, `2m40s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
