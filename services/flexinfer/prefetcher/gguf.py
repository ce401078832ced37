"""GGUF files: whether a file is as long as its own header says.

Imports nothing but the standard library: a check runs it in little more than a process start. The format is that of
ggml's docs/gguf.md; sizes of types are those of ggml-common.h. Nothing in a header is believed: every length is held
against what is left of the file, and every count against a limit.
"""

import struct
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MOST_ENTRIES, _MOST_STRINGS, _MOST_DIMENSIONS = 2**18, 2**24, 8
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a value -> its bytes; 8 is a string and 9 an array."""
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Type of a tensor -> (elements of a block, its bytes). A type that is not here is taken for empty."""


class _LyingHeaderError(Exception):
    """A header that cannot be true of its file; the message says what it promises."""


def fault(path: Path) -> str:
    """Return why no engine can load a file, as `<name> is ...`; empty if nothing speaks against it. Raises OSError.

    Any file may be a git-lfs pointer; the other faults are those of a file whose name ends in .gguf.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            return f"{path.name} is a git-lfs pointer of {size} bytes, not the file that it stands for"
        if not path.name.lower().endswith(".gguf"):
            return ""
        if not start.startswith(MAGIC):
            return f"{path.name} is no GGUF file: it begins with {start[:4]!r}"
        file.seek(len(MAGIC))
        try:
            promised = _Header(file, size).promised()
        except _LyingHeaderError as error:
            return f"{path.name} is no valid GGUF file of {size:,} bytes: {error}"
    if promised > size:
        return f"{path.name} is incomplete: {size:,} of the {promised:,} bytes that its header promises"
    return ""


class _Header:
    """Reads a header behind its magic."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._alignment = 32

    def promised(self) -> int:
        """Return how long the file must be at least; 0 for a big-endian file, which is not read."""
        version = self._number("I")
        if not version & 0xFFFF:
            return 0
        width = "I" if version == 1 else "Q"
        tensors, values = self._count(width, _MOST_ENTRIES), self._count(width, _MOST_ENTRIES)
        for _ in range(values):
            self._value(width)
        ends = [self._tensor(width) for _ in range(tensors)]
        start = -(-self._file.tell() // self._alignment) * self._alignment
        return start + max(ends) if ends else self._file.tell()

    def _value(self, width: str) -> None:
        key, kind = self._string(width), self._number("I")
        if key == b"general.alignment" and kind == _UINT32:
            self._alignment = max(1, self._number("I"))
        else:
            self._skip_value(kind, width, nested=False)

    def _skip_value(self, kind: int, width: str, *, nested: bool) -> None:
        if kind in _SIZES:
            self._skip(_SIZES[kind])
        elif kind == _STRING:
            self._skip(self._number(width))
        elif kind == _ARRAY and not nested:
            self._skip_array(width)
        else:
            raise _LyingHeaderError(f"a value has type {kind}")

    def _skip_array(self, width: str) -> None:
        kind = self._number("I")
        if kind in _SIZES:
            self._skip(self._number(width) * _SIZES[kind])
            return
        for _ in range(self._count(width, _MOST_STRINGS)):
            self._skip_value(kind, width, nested=True)

    def _tensor(self, width: str) -> int:
        """Return where a tensor ends, counted from the start of the data."""
        self._string(width)
        elements = 1
        for _ in range(self._count("I", _MOST_DIMENSIONS)):
            elements *= self._number(width)
        block, size = _BLOCKS.get(self._number("I"), (1, 0))
        return self._number("Q") + elements // block * size

    def _string(self, width: str) -> bytes:
        length = self._number(width)
        if length > self._size - self._file.tell():
            raise _LyingHeaderError(f"a text of {length:,} bytes goes past its end")
        return self._file.read(length)

    def _count(self, form: str, most: int) -> int:
        number = self._number(form)
        if number > most:
            raise _LyingHeaderError(f"it claims {number:,} entries; at most {most:,} are read")
        return number

    def _number(self, form: str) -> int:
        data = self._file.read(struct.calcsize(f"<{form}"))
        if len(data) != struct.calcsize(f"<{form}"):
            raise _LyingHeaderError("it ends within its header")
        return int(struct.unpack(f"<{form}", data)[0])

    def _skip(self, length: int) -> None:
        if length > self._size - self._file.tell():
            raise _LyingHeaderError(f"a value of {length:,} bytes goes past its end")
        self._file.seek(length, 1)
