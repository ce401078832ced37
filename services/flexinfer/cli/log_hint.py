"""What a process that is not ready has written last, as a hint of what it waits for; nothing of an earlier run."""

from pathlib import Path

import msgspec

from flexinfer.api import conditions

_MOST = 64 << 10
"""Bytes of the end of a log that are read: a line may have a traceback."""


class _Line(msgspec.Struct):
    """A line of a component's log (`flexinfer.runtime.log`)."""

    message: str


class LogHint:
    """The end of a log from now on."""

    def __init__(self, log: Path) -> None:
        self._log, self._start = log, _size(log)

    def __str__(self) -> str:
        """Return the message of the last line as the end of a sentence; empty if nothing was logged since."""
        size = _size(self._log)
        start = self._start if self._start <= size else 0  # it was rotated
        try:
            with self._log.open("rb") as file:
                file.seek(max(start, size - _MOST))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"; {self._log} ends with: {conditions.one_line(_message(last))}" if last else ""


def _message(line: str) -> str:
    """Return the message of a line of JSON; any other line as it is."""
    try:
        return msgspec.json.decode(line, type=_Line).message
    except msgspec.MsgspecError:
        return line


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
