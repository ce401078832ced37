"""Refusals: a line in the log for a request that the proxy itself refuses, with who was asked for what and why not.

Clients decide how many requests are refused, so the lines are limited: one in 10 s for each Model and cause, with the number of those that
were left out. Of a request only its method and path are logged: neither its query, nor a header or the body. The message of an error that
the client caused may repeat what was sent, so it is left out too; its code says enough.
"""

import logging
from collections.abc import Callable

import msgspec

from flexinfer.proxy.errors import RequestError

LINE_SECONDS = 10.0
"""At most one line in so many seconds for each Model and cause."""
_CAUSES = 1000
"""How many pairs of Model and cause are remembered at most."""
_PATH_LIMIT, _MESSAGE_LIMIT = 200, 1000
_SERVER_ERROR = 500

log = logging.getLogger(__name__)


class Refused(msgspec.Struct, frozen=True):
    """A refused request: `model` is namespace/name, empty if the request led to none; `waited` is in seconds."""

    method: str
    path: str
    model: str
    waited: float


class RefusalLog:
    """Logs refusals; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # when the last line was, how many were left out since

    def record(self, refusal: Refused, error: RequestError) -> None:
        """Log a refusal, or count it if a line like it is younger than 10 s. A warning is what the client did not cause."""
        cause, now = (refusal.model, error.code), self._clock()
        at, left_out = self._lines.pop(cause, (now - LINE_SECONDS, 0))
        if now - at < LINE_SECONDS:
            self._lines[cause] = (at, left_out + 1)
            return
        if len(self._lines) >= _CAUSES:
            del self._lines[next(iter(self._lines))]
        self._lines[cause] = (now, 0)
        level = logging.WARNING if error.status >= _SERVER_ERROR else logging.INFO
        log.log(level, "%s", _line(refusal, error, left_out))


def _line(refusal: Refused, error: RequestError, left_out: int) -> str:
    """Return the line in ASCII: a path and a message may quote bytes that are not text."""
    line = (
        f"{refusal.method} {refusal.path[:_PATH_LIMIT]} refused with {error.status} {error.code} after {refusal.waited:.1f}s, "
        f"model {refusal.model or 'unknown'}"
    )
    if error.status >= _SERVER_ERROR:
        line += f": {error.message[:_MESSAGE_LIMIT]}"
    if left_out:
        line += f" ({left_out} more like this since the last line)"
    return line.encode("ascii", "backslashreplace").decode()
