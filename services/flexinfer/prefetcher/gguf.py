"""GGUF files: what the header of one says, and whether the file is as long as that.

Imports nothing but the standard library: a check runs it in little more than a process start. The format is that of
ggml's docs/gguf.md; sizes of types are those of ggml-common.h. Nothing in a header is believed: every length is held
against what is left of the file, and every count against a limit.
"""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"GGUF"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MOST_ENTRIES, _MOST_STRINGS, _MOST_DIMENSIONS = 2**18, 2**24, 8
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a value -> its bytes; 8 is a string and 9 an array."""
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_KEPT, _MOST_VALUES = 1024, 4096
"""Elements of an array (one a layer, no vocabulary) and bytes of a text that are kept, and values in all."""
Value = int | float | str | list[int | float]
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Type of a tensor -> (elements of a block, its bytes). A type that is not here is taken for empty."""
TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
"""Type of a tensor -> its name."""


class Tensor(NamedTuple):
    """A tensor: its type by number, and its size in bytes (0 for a type that is not known)."""

    name: str
    kind: int
    size: int
    shape: tuple[int, ...]


class LyingHeaderError(Exception):
    """A header that cannot be true of its file; the message says what it promises."""


def fault(path: Path) -> str:
    """Return why no engine can load a file, as `<name> is ...`; empty if it looks valid. Raises OSError.

    Any file may be a git-lfs pointer; the other faults are those of a GGUF file, by its name or its beginning.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            return f"{path.name} is a git-lfs pointer of {size} bytes, not the file that it stands for"
        if not is_gguf(path.name, start):
            return ""
        if not start.startswith(MAGIC):
            return f"{path.name} is not a GGUF file: {beginning(start[:4])}"
        try:
            promised_bytes = Header(file, size).promised
        except LyingHeaderError as error:
            return f"{path.name} is not a valid GGUF file of {size:,} bytes: {error}"
    if promised_bytes > size:
        return f"{path.name} is incomplete: {size:,} of the {promised_bytes:,} bytes that its header promises"
    return ""


def beginning(start: bytes) -> str:
    """Return how a file begins, as text where it is text."""
    if not start:
        return "it is empty"
    text = start.decode("ascii", errors="replace")
    return (
        f'it begins with "{text}"'
        if text.isascii() and text.isprintable()
        else f"it begins with the bytes {start.hex(' ')}"
    )


def is_gguf(name: str, start: bytes) -> bool:
    """Return whether a file is meant to be one, by its name or how it begins."""
    return name.lower().endswith(".gguf") or start.startswith(MAGIC)


def read(path: Path) -> "Header":
    """Return the header of a file. Raises LyingHeaderError, and OSError."""
    with path.open("rb") as file:
        return Header(file, path.stat().st_size)


class Header:
    """A header, read from a file that begins with the magic; of a big-endian file nothing is read.

    `values` are the metadata, without long arrays and with the beginning of long texts; `tensors` are what the file holds. Raises
    LyingHeaderError.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.values: dict[str, Value] = {}
        self.lengths: dict[str, int] = {}
        """Of the arrays that are too long to be kept, how many elements they have."""
        self.tensors: list[Tensor] = []
        self.promised = 0
        """How long the file must be at least."""
        file.seek(len(MAGIC))
        version = self._number("I")
        if version & 0xFFFF:
            self._read("I" if version == 1 else "Q")

    def _read(self, width: str) -> None:
        tensors, values = self._count(width, _MOST_ENTRIES), self._count(width, _MOST_ENTRIES)
        for _ in range(values):
            self._value(width)
        ends = [self._tensor(width) for _ in range(tensors)]
        alignment = self.values.get("general.alignment", 32)
        step = max(1, alignment if isinstance(alignment, int) else 32)
        start = -(-self._file.tell() // step) * step
        self.promised = start + max(ends) if ends else self._file.tell()

    def _value(self, width: str) -> None:
        key, kind = self._string(width).decode(errors="replace"), self._number("I")
        if kind in _SIZES:
            self._keep(key, self._scalar(kind))
        elif kind == _STRING:
            text = self._string(width)
            self._keep(key, text[:_MOST_KEPT].decode(errors="replace"))
        elif kind == _ARRAY:
            self._array(key, width)
        else:
            raise LyingHeaderError(f"a value has type {kind}")

    def _array(self, key: str, width: str) -> None:
        kind, number = self._number("I"), self._number(width)
        if kind in _SIZES and number <= _MOST_KEPT:
            self._keep(key, [self._scalar(kind) for _ in range(number)])
            return
        self.lengths[key[:_MOST_KEPT]] = number
        if kind in _SIZES:
            self._skip(number * _SIZES[kind])
        elif kind == _STRING:
            for _ in range(self._limited(number, _MOST_STRINGS)):
                self._skip(self._number(width))
        else:
            raise LyingHeaderError(f"a value has type {kind}")

    def _keep(self, key: str, value: Value) -> None:
        if len(self.values) < _MOST_VALUES:
            self.values[key[:_MOST_KEPT]] = value

    def _scalar(self, kind: int) -> int | float:
        data = self._bytes(_SIZES[kind])
        value: int | float = struct.unpack(f"<{_FORMATS[kind]}", data)[0]
        return value

    def _tensor(self, width: str) -> int:
        """Read a tensor; returns where it ends, counted from the start of the data."""
        name = self._string(width)[:_MOST_KEPT].decode(errors="replace")
        shape = tuple(self._number(width) for _ in range(self._count("I", _MOST_DIMENSIONS)))
        elements = 1
        for dimension in shape:
            elements *= dimension
        kind = self._number("I")
        block, size = _BLOCKS.get(kind, (1, 0))
        self.tensors.append(Tensor(name, kind, elements // block * size, shape))
        return self._number("Q") + self.tensors[-1].size

    def _string(self, width: str) -> bytes:
        length = self._number(width)
        if length > self._size - self._file.tell():
            raise LyingHeaderError(f"a text of {length:,} bytes goes past its end")
        return self._file.read(length)

    def _count(self, form: str, most: int) -> int:
        return self._limited(self._number(form), most)

    def _limited(self, number: int, most: int) -> int:
        if number > most:
            raise LyingHeaderError(f"it claims {number:,} entries; at most {most:,} are read")
        return number

    def _number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))[0])

    def _bytes(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise LyingHeaderError("it ends within its header")
        return data

    def _skip(self, length: int) -> None:
        if length > self._size - self._file.tell():
            raise LyingHeaderError(f"a value of {length:,} bytes goes past its end")
        self._file.seek(length, 1)
