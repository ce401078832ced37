"""The history of a simulated card: every figure that its driver has written, whatever our own services made of it."""

import threading
from pathlib import Path

import msgspec

from flexinfer.events.nodes import Device

_PERIOD_SECONDS = 0.02
"""The driver writes five times a second at most."""


class _File(msgspec.Struct):
    devices: tuple[Device, ...]


class Card:
    """The first card of a node. `most_mb` is the most memory that was in use at a time; a card that is over-committed is full."""

    def __init__(self, file: Path) -> None:
        self._file, self._last = file, b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.history: list[Device] = []

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def end(self) -> None:
        """Follow no more."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(_PERIOD_SECONDS):
            content = self._file.read_bytes() if self._file.exists() else b""
            if content and content != self._last:
                self._last = content
                self.history += msgspec.json.decode(content, type=_File).devices[:1]

    @property
    def most_mb(self) -> int:
        """The most memory in use at a time, by the processes' own figures too: the card cannot show more than it has."""
        sums = [sum(process.used_mb for process in device.processes) for device in self.history]
        return max(
            (max(device.used_mb, mb) for device, mb in zip(self.history, sums, strict=True)), default=0
        )
