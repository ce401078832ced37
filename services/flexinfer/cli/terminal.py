"""What a command prints, on any terminal: characters that it cannot show are written in ASCII.

Python ends a program with UnicodeEncodeError for a character that the encoding of a stream lacks, and writes UTF-8 under `LANG=C`
(PEP 538, PEP 540), which a terminal of that locale shows as noise.
"""

import codecs
import json
import unicodedata
from collections.abc import Mapping
from io import TextIOWrapper
from types import MappingProxyType
from typing import TextIO

import msgspec

_ERRORS = "flexinfer.ascii"
_SIGNS: Mapping[str, str] = MappingProxyType(
    {"\N{CHECK MARK}": "+", "\N{BALLOT X}": "x", "\N{HORIZONTAL ELLIPSIS}": "...", "\N{DEGREE SIGN}": "deg "}
)
_ASCII_LOCALES = ("C", "POSIX")
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python itself sets LC_CTYPE to under LANG=C (PEP 538)."""


def prepare(streams: tuple[TextIO, ...], environment: Mapping[str, str]) -> None:
    """Have streams write in ASCII what they cannot show; all but ASCII under a locale that has no more."""
    codecs.register_error(_ERRORS, _replaced)
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="ascii" if ascii_only(environment) else None, errors=_ERRORS)


def ascii_only(environment: Mapping[str, str]) -> bool:
    """Return whether the locale is C or POSIX, by the variable that counts (POSIX, 8.2); an encoding that is named for Python goes before it."""
    if environment.get("PYTHONIOENCODING"):
        return False
    if environment.get("LC_ALL"):
        return environment["LC_ALL"] in _ASCII_LOCALES
    kind, language = environment.get("LC_CTYPE", ""), environment.get("LANG", "")
    return (kind if kind and kind not in _COERCED else language) in _ASCII_LOCALES


def ascii_of(text: str) -> str:
    """Return text in ASCII: signs by their look, letters without their accents, all else by its number as in JSON."""
    return "".join(character if character.isascii() else _character(character) for character in text)


def print_json(value: object) -> None:
    """Print a value as JSON of ASCII alone, so that it is the same on every terminal and in every pipe."""
    print(json.dumps(msgspec.to_builtins(value), indent=2))


def _character(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    letter = unicodedata.category(character).startswith("L")
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() if letter else ""
    return plain or json.dumps(character)[1:-1]


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return ascii_of(error.object[error.start : error.end]), error.end
